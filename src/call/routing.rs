//! Where calls come from and where they go: the trunk of a source, the targets of a call. Pure over the
//! configuration; nothing a message says chooses a destination (threats R16).

use std::net::{IpAddr, SocketAddr};

use crate::config::{Config, Route, Trunk, TrunkId};
use crate::sip::msg::Uri;
use crate::sip::{Dest, Flow};

/// One place to try for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) trunk: TrunkId,
    pub(super) remote: SocketAddr,
}

impl Target {
    /// Where requests to it go.
    pub(super) fn dest(&self, config: &Config) -> Dest {
        let listener = config.trunks[self.trunk.0].listener;
        Dest::fresh(listener, config.listeners[listener.0].transport, self.remote, self.trunk)
    }
}

/// Why a call has no target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoRoute {
    /// No route leads from this trunk: it may not place calls.
    TrunkMayNot,
    /// Routes lead from it, none for this number.
    NoPrefix,
    /// Every target is down or asked for peace, for so many seconds.
    NobodyThere(Option<u64>),
}

/// The trunk that messages of a flow belong to: the one its connection was vouched for, else the one whose remote it is
/// exactly, else the one with the narrowest source network around it. `None`: nobody we know, to be dropped without a
/// word.
pub(super) fn trunk_of(config: &Config, flow: &Flow) -> Option<TrunkId> {
    if flow.trunk.is_some() {
        return flow.trunk;
    }
    let remote = flow.remote;
    // An address alone never stands for a peer that has a certificate to show.
    let known_by_address = |trunk: &Trunk| trunk.link.tls.as_ref().is_none_or(|tls| !tls.mutual);
    let here = |trunk: &Trunk| trunk.listener == flow.listener && known_by_address(trunk);
    let on_listener = || config.trunks.iter().enumerate().filter(|(_, trunk)| here(trunk));
    let exact = on_listener().find(|(_, trunk)| trunk.remotes.iter().any(|r| same_place(*r, remote)));
    let narrowest = || {
        on_listener()
            .filter_map(|(at, trunk)| {
                let around = trunk.sources.iter().filter(|net| net.contains(remote.ip()));
                around.map(|net| net.prefix).max().map(|prefix| (prefix, at))
            })
            // Of equals the first configured.
            .max_by_key(|(prefix, at)| (*prefix, std::cmp::Reverse(*at)))
            .map(|(_, at)| TrunkId(at))
    };
    let former = || on_listener().find(|(_, trunk)| trunk.link.former.contains(&remote.ip()));
    exact.map(|(at, _)| TrunkId(at)).or_else(narrowest).or_else(|| former().map(|(at, _)| TrunkId(at)))
}

/// Whether `ip` is a place of `trunk`'s peers: where its requests come from or where ours go.
pub(super) fn is_of_trunk(config: &Config, trunk: TrunkId, ip: IpAddr) -> bool {
    let trunk = &config.trunks[trunk.0];
    trunk.sources.iter().any(|net| net.contains(ip))
        || trunk.remotes.iter().any(|r| r.ip().to_canonical() == ip.to_canonical())
        || trunk.link.former.contains(&ip)
}

/// Whether a flow comes from a peer of `trunk`: vouched for on its connection, or by its address.
pub(super) fn comes_from(config: &Config, trunk: TrunkId, flow: &Flow) -> bool {
    match flow.trunk {
        Some(vouched) => vouched == trunk,
        None => is_of_trunk(config, trunk, flow.remote.ip()),
    }
}

fn same_place(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && a.ip().to_canonical() == b.ip().to_canonical()
}

/// The first route for a call to `user` that came in on `from`.
fn find<'a>(config: &'a Config, from: TrunkId, user: &str) -> Result<&'a Route, NoRoute> {
    let mut routes = config.routes.iter().filter(|route| route.from == from).peekable();
    if routes.peek().is_none() {
        return Err(NoRoute::TrunkMayNot);
    }
    let takes = |route: &&Route| user.starts_with(&route.prefix) && route.numbers.takes(user);
    routes.find(takes).ok_or(NoRoute::NoPrefix)
}

/// The called and the calling number as the route of a call wants them; `None` where that makes no number.
pub(super) fn numbers(config: &Config, from: TrunkId, called: &str, caller: &str) -> Option<(String, String)> {
    let numbers = &find(config, from, called).ok()?.numbers;
    let (called, caller) = (numbers.called(called), numbers.caller(caller));
    let fit = |user: &str| {
        let uri = format!("sip:{user}@x");
        Uri::parse(uri.as_bytes()).is_ok_and(|uri| uri.user() == Some(user))
    };
    (fit(&called) && (caller.is_empty() || fit(&caller))).then_some((called, caller))
}

/// The trunks a call to `user` that came in on `from` may go to, in the order to be tried: those of the first route that
/// matches.
pub(super) fn trunks<'a>(config: &'a Config, from: TrunkId, user: &str) -> Result<&'a [TrunkId], NoRoute> {
    find(config, from, user).map(|route| route.to.as_slice())
}
