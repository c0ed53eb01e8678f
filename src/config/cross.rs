//! How the sections fit together: names resolve, addresses do not clash, calls have somewhere to go, what records has
//! a key. Each check speaks only when what it needs was readable, so one slip gives one fault.

use std::net::SocketAddr;

use super::hint::hint;
use super::read::value::overlap;
use super::read::{Drafts, link, listener, recorder, route, trunk};
use super::{
    GuardMode, ListenerId, RecorderId, RecordingPolicy, Route, Side, Srtp, T38, Transport, TrunkId, Unmaskable,
};

/// UDP ports a call takes: RTP and RTCP on both legs.
const PORTS_PER_CALL: u32 = 4;

/// Names resolved.
pub(super) struct Found {
    /// The listener of each trunk.
    pub(super) listeners: Vec<Option<ListenerId>>,
    /// The recorders each trunk names.
    pub(super) named: Vec<Vec<RecorderId>>,
    /// The listener of each recorder, and whether it is a TLS one.
    pub(super) recorders: Vec<(Option<ListenerId>, bool)>,
    /// The routes; `None` when a name does not resolve.
    pub(super) routes: Option<Vec<Route>>,
}

/// Calls that a port range carries when each call goes to so many recorders.
pub(super) fn capacity((first, last): (u16, u16), recorders: u32) -> u32 {
    (u32::from(last) - u32::from(first) + 1) / (PORTS_PER_CALL * (1 + recorders))
}

/// The most recorders that a call goes to: those of its carrier trunk and of its PBX trunk.
pub(super) fn recorders_of_a_call(drafts: &Drafts<'_>) -> u32 {
    let most = |side| {
        let named = drafts.trunks.iter().filter(|trunk| trunk.side == Some(side));
        named.map(|trunk| trunk.recorders.as_ref().map_or(0, Vec::len)).max().unwrap_or_default()
    };
    let most = (most(Side::Carrier) + most(Side::Pbx)).min(drafts.recorders.len());
    u32::try_from(most).unwrap_or(u32::MAX / 8)
}

/// Notes every fault between sections.
pub(super) fn check(drafts: &Drafts<'_>) -> Found {
    listeners(drafts);
    calls(drafts);
    recording(drafts);
    let listeners = drafts.trunks.iter().map(|trunk| listener_of(drafts, trunk)).collect::<Vec<_>>();
    trunks(drafts, &listeners);
    let named = drafts.trunks.iter().map(|trunk| named(drafts, trunk)).collect();
    Found { routes: routes(drafts, &listeners), recorders: recorders(drafts, &listeners), named, listeners }
}

/// The recorders a trunk names.
fn named(drafts: &Drafts<'_>, trunk: &trunk::Draft<'_>) -> Vec<RecorderId> {
    let mut found = Vec::new();
    let unreadable = drafts.recorders.iter().any(|recorder| recorder.name.is_none());
    for (value, name) in trunk.recorders.iter().flatten() {
        match drafts.recorders.iter().position(|recorder| recorder.name.as_deref() == Some(name)) {
            Some(at) if found.contains(&RecorderId(at)) => value.unfit(format!("{name:?} is named twice")),
            Some(at) => found.push(RecorderId(at)),
            None if unreadable => {}
            None => {
                let known = drafts.recorders.iter().filter_map(|recorder| recorder.name.as_deref());
                value.unfit(format!("no recorder is named {name:?}{}", hint(name, known)));
            }
        }
    }
    found
}

/// The listener of each recorder, and whether it is a TLS one.
fn recorders(drafts: &Drafts<'_>, trunk_listeners: &[Option<ListenerId>]) -> Vec<(Option<ListenerId>, bool)> {
    let names = drafts.trunks.iter().map(|trunk| trunk.name.as_ref());
    let count = drafts.trunks.len();
    twice(names.chain(drafts.recorders.iter().map(|recorder| recorder.name.as_ref())), |index, name| {
        if let Some(at) = index.checked_sub(count) {
            drafts.recorders[at]
                .table
                .fault("name", format!("a trunk or recorder named {name:?} stands above already"));
        }
    });
    let mut found = Vec::new();
    for recorder in &drafts.recorders {
        found.push(recorder_on(drafts, trunk_listeners, recorder, &found));
    }
    found
}

fn recorder_on(
    drafts: &Drafts<'_>,
    trunk_listeners: &[Option<ListenerId>],
    recorder: &recorder::Draft<'_>,
    before: &[(Option<ListenerId>, bool)],
) -> (Option<ListenerId>, bool) {
    let table = &recorder.table;
    let named = recorder.name.as_deref();
    if named == Some("sealed") {
        table.fault("name", "is what the recorder of sealed files is called; another name is wanted");
    }
    let wanted = drafts.trunks.iter().flat_map(|trunk| trunk.recorders.iter().flatten());
    if let Some(name) = named
        && !wanted.map(|(_, name)| *name).any(|wanted| wanted == name)
    {
        table.fault("name", format!("no trunk has {name:?} among its recorders, so it would record nothing"));
    }
    let sealed = drafts.keys.current.is_some() && drafts.storage.has("recordings");
    if recorder.spill == Some(Some(true)) && !sealed {
        table.fault("spill", "wants a key and a place for sealed files: [keys.current] and storage.recordings");
    }
    // What was spilled before spill was turned off may still wait.
    if recorder.forward == Some(Some(true)) && !sealed {
        table.fault("forward", "wants sealed files to forward from: [keys.current] and storage.recordings");
    }
    if recorder.forward == Some(Some(false)) && table.has("forward_sessions") {
        table.fault("forward_sessions", "means nothing with forward = false");
    }
    let Some(name) = recorder.listener else { return (None, false) };
    let Some(at) = drafts.listeners.iter().position(|listener| listener.name.as_deref() == Some(name)) else {
        if drafts.listeners.iter().all(|listener| listener.name.is_some()) {
            let known = drafts.listeners.iter().filter_map(|listener| listener.name.as_deref());
            table.fault("listener", format!("no listener is named {name:?}{}", hint(name, known)));
        }
        return (None, false);
    };
    let listener = &drafts.listeners[at];
    let secure = listener.transport == Some(Transport::Tls);
    let plain =
        recorder.srtp.is_some_and(|srtp| srtp.unwrap_or(if secure { Srtp::Required } else { Srtp::Off }) == Srtp::Off);
    if plain && listener.transport.is_some() && table.has("srtp_suites") {
        table.fault("srtp_suites", "means nothing without encrypted sound: srtp = \"optional\" or \"required\"");
    }
    if !secure {
        for key in link::TLS_KEYS.into_iter().filter(|key| table.has(key)) {
            table.fault(key, "is read on a listener with transport = \"tls\" only");
        }
    } else if !table.has("tls_ca") {
        table.fault(
            "tls_ca",
            "is missing, and needed because the listener is a TLS one; for instance \"recorder-ca.pem\"",
        );
    }
    for remote in recorder.remotes.iter().flatten() {
        if listener.address.is_some_and(|bound| bound.is_ipv4() != remote.is_ipv4()) {
            table.fault("remotes", format!("{remote} is of the other IP version than its listener"));
        } else if drafts.listeners.iter().filter_map(|own| own.address).any(|own| own == *remote) {
            table.fault("remotes", format!("{remote} is a listener of ours"));
        }
    }
    // Who asks must be known by where he asks from; over TLS his certificate tells.
    let here = |other: &Option<ListenerId>| *other == Some(ListenerId(at));
    let trunks = drafts.trunks.iter().zip(trunk_listeners).filter(|(_, at)| here(at));
    let others = trunks.map(|(trunk, _)| (trunk.name.as_deref(), &trunk.sources));
    let recorders = drafts.recorders.iter().zip(before).filter(|(_, (at, _))| here(at));
    let others = others.chain(recorders.map(|(other, _)| (other.name.as_deref(), &other.sources)));
    for (name, sources) in others.filter(|_| !secure) {
        let theirs = || sources.iter().flatten();
        if let Some(both) = recorder.sources.iter().flatten().find(|a| theirs().any(|b| overlap(a, b))) {
            let key = if table.has("sources") { "sources" } else { "remotes" };
            let name = name.unwrap_or("above");
            table.fault(
                key,
                format!(
                    "{}/{} is also a source of {name:?} on the same listener; use a listener for each",
                    both.address, both.prefix
                ),
            );
        }
    }
    (Some(ListenerId(at)), secure)
}

fn twice<'a>(names: impl Iterator<Item = Option<&'a String>>, mut report: impl FnMut(usize, &str)) {
    let mut seen: Vec<&String> = Vec::new();
    for (index, name) in names.enumerate() {
        if let Some(name) = name {
            if seen.contains(&name) {
                report(index, name);
            }
            seen.push(name);
        }
    }
}

fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let same_ip =
        a.ip() == b.ip() || (a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified()));
    a.port() == b.port() && same_ip
}

fn listeners(drafts: &Drafts<'_>) {
    if drafts.listeners.is_empty() && !drafts.root.has("listener") {
        drafts.root.fault("listener", "no [[listener]] is there, so SIP would be heard nowhere");
    }
    twice(drafts.listeners.iter().map(|listener| listener.name.as_ref()), |index, name| {
        drafts.listeners[index].table.fault("name", format!("a listener named {name:?} stands above already"));
    });
    for (index, listener) in drafts.listeners.iter().enumerate() {
        let (Some(at), Some(transport)) = (listener.address, listener.transport) else { continue };
        let same = |other: &&listener::Draft<'_>| {
            other.transport.is_some_and(|other| other.is_stream() == transport.is_stream())
                && other.address.is_some_and(|other| clash(at, other))
        };
        if let Some(other) = drafts.listeners[..index].iter().find(same) {
            let name = other.name.as_deref().unwrap_or("above");
            listener.table.fault("address", format!("{at} is taken by the listener {name:?} already"));
        }
        let control = drafts.control.as_ref().and_then(|control| control.address);
        if transport.is_stream() && control.is_some_and(|control| clash(at, control)) {
            listener.table.fault("address", format!("{at} is taken by [control] too"));
        }
        let places = drafts.listeners.iter().filter_map(|listener| listener.options.as_ref()?.media);
        let mut bound = drafts.media.address.into_iter().chain(places.map(|place| place.address));
        if transport == Transport::Udp
            && let Some((first, last)) = drafts.media.ports
            && (first..=last).contains(&at.port())
            && bound.any(|ip| clash(at, SocketAddr::new(ip, at.port())))
        {
            listener.table.fault("address", format!("port {} lies within media.ports ({first} to {last})", at.port()));
        }
    }
}

fn calls(drafts: &Drafts<'_>) {
    if let (Some(calls), Some(ports)) = (drafts.node_calls, drafts.media.ports)
        && calls > capacity(ports, recorders_of_a_call(drafts))
    {
        let (first, last) = ports;
        let recorders = recorders_of_a_call(drafts);
        let room = capacity(ports, recorders);
        let each = match recorders {
            0 => "four ports each".to_owned(),
            _ => format!("{} ports each, its recorders' included", 4 * (1 + recorders)),
        };
        drafts
            .node
            .fault("max_calls", format!("media.ports {first} to {last} carry {room} calls ({each}), not {calls}"));
    }
}

fn recording(drafts: &Drafts<'_>) {
    let records = |trunk: &&trunk::Draft<'_>| trunk.recording.is_some_and(|policy| policy != RecordingPolicy::Off);
    let Some(trunk) = drafts.trunks.iter().find(records) else { return };
    if drafts.keys.current.is_none() && !drafts.root.has("keys") {
        trunk
            .table
            .fault("recording", "calls are to be recorded, but no key to seal them is named; add [keys.current]");
    } else if drafts.keys.current.is_none() && !drafts.root.child_has("keys", "current") {
        trunk.table.fault("recording", "calls are to be recorded, but [keys.current] is missing");
    }
    if !drafts.storage.has("recordings") {
        trunk.table.fault("recording", "calls are to be recorded, but storage.recordings (the directory) is missing");
    }
}

fn listener_of(drafts: &Drafts<'_>, trunk: &trunk::Draft<'_>) -> Option<ListenerId> {
    let name = trunk.listener?;
    let found = drafts.listeners.iter().position(|listener| listener.name.as_deref() == Some(name));
    let unreadable = drafts.listeners.iter().any(|listener| listener.name.is_none());
    if found.is_none() && !unreadable {
        let known = drafts.listeners.iter().filter_map(|listener| listener.name.as_deref());
        trunk.table.fault("listener", format!("no listener is named {name:?}{}", hint(name, known)));
    }
    found.map(ListenerId)
}

fn trunks(drafts: &Drafts<'_>, listeners: &[Option<ListenerId>]) {
    for (side, word) in [(Side::Carrier, "carrier"), (Side::Pbx, "pbx")] {
        let is_there = drafts.trunks.iter().any(|trunk| trunk.side.is_none_or(|known| known == side));
        if !is_there {
            drafts
                .root
                .fault("trunk", format!("no [[trunk]] has side = \"{word}\"; a call needs one trunk of each side"));
        }
    }
    twice(drafts.trunks.iter().map(|trunk| trunk.name.as_ref()), |index, name| {
        drafts.trunks[index].table.fault("name", format!("a trunk named {name:?} stands above already"));
    });
    for (index, trunk) in drafts.trunks.iter().enumerate() {
        side(trunk);
        tls(drafts, trunk, listeners[index]);
        let Some(ListenerId(listener)) = listeners[index] else { continue };
        let bound = drafts.listeners[listener].address;
        for remote in trunk.remotes.iter().flatten() {
            if bound.is_some_and(|bound| bound.is_ipv4() != remote.is_ipv4()) {
                trunk.table.fault("remotes", format!("{remote} is of the other IP version than its listener"));
            } else if drafts
                .listeners
                .iter()
                .filter_map(|listener| listener.address)
                .any(|own| clash(own, *remote) && own.ip() == remote.ip())
            {
                trunk.table.fault("remotes", format!("{remote} is a listener of ours; calls would go in circles"));
            }
        }
        let others = drafts.trunks[..index].iter().zip(listeners).filter(|(_, other)| **other == listeners[index]);
        for (other, _) in others.filter(|(other, _)| !told_apart(trunk, other)) {
            let (mine, theirs) = (trunk.sources.iter().flatten(), other.sources.iter().flatten());
            if let Some(both) = mine.clone().find(|a| theirs.clone().any(|b| overlap(a, b))) {
                let name = other.name.as_deref().unwrap_or("above");
                let key = if trunk.table.has("sources") { "sources" } else { "remotes" };
                trunk.table.fault(
                    key,
                    format!(
                        "{}/{} is also a source of trunk {name:?} on the same listener, so a call from there would \
                         fit both; use a listener for each",
                        both.address, both.prefix
                    ),
                );
            }
        }
    }
}

/// TLS keys stand exactly on trunks of TLS listeners.
fn tls(drafts: &Drafts<'_>, trunk: &trunk::Draft<'_>, listener: Option<ListenerId>) {
    let Some(transport) = listener.and_then(|ListenerId(at)| drafts.listeners[at].transport) else { return };
    if transport != Transport::Tls {
        for key in link::TLS_KEYS.into_iter().filter(|key| trunk.table.has(key)) {
            trunk.table.fault(key, "is read on a listener with transport = \"tls\" only");
        }
    } else if !trunk.table.has("tls_ca") {
        let example = "for instance tls_ca = \"carrier-ca.pem\"";
        trunk.table.fault("tls_ca", format!("is missing, and needed because the listener is a TLS one; {example}"));
    } else if trunk.everywhere() && !trunk.table.has("media") {
        trunk.table.fault("media", "is missing, and needed because sources is everywhere; it says where media may go");
    }
}

/// Whether two trunks of one listener are known by different certificates, wherever they come from.
fn told_apart(a: &trunk::Draft<'_>, b: &trunk::Draft<'_>) -> bool {
    match (a.link.tls.as_ref().and_then(Option::as_ref), b.link.tls.as_ref().and_then(Option::as_ref)) {
        (Some(a), Some(b)) => a.mutual && b.mutual && !a.names.iter().any(|name| b.names.contains(name)),
        _ => false,
    }
}

/// Keys that have a meaning on one side only.
fn side(trunk: &trunk::Draft<'_>) {
    if let Some(key) = trunk.auto_key()
        && trunk.guard.is_some_and(|guard| guard != GuardMode::Auto)
    {
        trunk.table.fault(key, "is read with guard = \"auto\" only");
    }
    if trunk.guard.is_some_and(|guard| matches!(guard, GuardMode::Auto | GuardMode::Always)) {
        if trunk.unmaskable == Some(Unmaskable::Pass) {
            let reason =
                "lets through what guard = \"auto\" or \"always\" could not mask; \"strip\" or \"refuse\" is wanted";
            trunk.table.fault("unmaskable", reason);
        }
        if trunk.t38 == Some(T38::Pass) {
            let reason = "lets through what guard = \"auto\" or \"always\" could not mask; \"refuse\" is wanted";
            trunk.table.fault("t38", reason);
        }
    }
    match trunk.side {
        Some(Side::Pbx) if trunk.guard.is_some_and(|guard| guard != GuardMode::Off) => {
            trunk
                .table
                .fault("guard", "the guard stands on the carrier side, where customers are; set it on that trunk");
        }
        Some(Side::Carrier) if trunk.table.has("star_codes") => {
            trunk
                .table
                .fault("star_codes", "star codes are keyed by agents; they belong on a trunk with side = \"pbx\"");
        }
        Some(Side::Carrier) if trunk.table.has("signal_header") => {
            let reason = "only the PBX steers holds; the header belongs on a trunk with side = \"pbx\"";
            trunk.table.fault("signal_header", reason);
        }
        _ => {}
    }
}

fn trunk_named(drafts: &Drafts<'_>, name: &str) -> Result<usize, String> {
    let found = drafts.trunks.iter().position(|trunk| trunk.name.as_deref() == Some(name));
    let known = drafts.trunks.iter().filter_map(|trunk| trunk.name.as_deref());
    found.ok_or_else(|| format!("no trunk is named {name:?}{}", hint(name, known)))
}

fn routes(drafts: &Drafts<'_>, listeners: &[Option<ListenerId>]) -> Option<Vec<Route>> {
    let names_known = drafts.trunks.iter().all(|trunk| trunk.name.is_some());
    if drafts.routes.is_empty() && !drafts.root.has("route") {
        drafts.root.fault("route", "no [[route]] is there, so no call could go anywhere");
    }
    let mut routes: Vec<Option<Route>> = Vec::new();
    for (index, route) in drafts.routes.iter().enumerate() {
        let from = route.from.and_then(|name| match trunk_named(drafts, name) {
            Ok(trunk) => Some(trunk),
            Err(reason) => {
                if names_known {
                    route.table.fault("from", reason);
                }
                None
            }
        });
        let mut to = Vec::new();
        for (value, name) in &route.to {
            match trunk_named(drafts, name) {
                Ok(trunk) if to.contains(&TrunkId(trunk)) => value.unfit(format!("{name:?} is named twice")),
                Ok(trunk) => {
                    to.push(TrunkId(trunk));
                    if let Some(reason) = from.and_then(|from| misfit(&drafts.trunks[from], &drafts.trunks[trunk])) {
                        value.unfit(reason);
                    }
                }
                Err(reason) if names_known => value.unfit(reason),
                Err(_) => {}
            }
        }
        one_media_place(drafts, listeners, &to, route);
        shadowed(&drafts.routes[..index], route);
        let read = from.zip(route.prefix.clone()).zip(route.numbers.clone());
        routes.push(read.map(|((from, prefix), numbers)| Route { from: TrunkId(from), prefix, to, numbers }));
    }
    if !drafts.routes.is_empty() && names_known {
        unrouted(drafts);
    }
    routes.into_iter().collect()
}

/// A call's media sockets are bound before it is known which trunk will answer, so all trunks of a route share an address.
fn one_media_place(drafts: &Drafts<'_>, listeners: &[Option<ListenerId>], to: &[TrunkId], route: &route::Draft<'_>) {
    let place = |trunk: &TrunkId| {
        let options = drafts.listeners[listeners[trunk.0]?.0].options.as_ref()?;
        Some(options.media.map(|place| (place.address, place.advertise)))
    };
    let mut places = to.iter().filter_map(place);
    if let Some(first) = places.next()
        && places.any(|other| other != first)
    {
        route.table.fault("to", "its trunks are on listeners with different media_address; use a route for each");
    }
}

/// Why no call can go from one trunk to the other.
fn misfit(from: &trunk::Draft<'_>, to: &trunk::Draft<'_>) -> Option<String> {
    let word = |side| if side == Side::Carrier { "carrier" } else { "pbx" };
    let name = to.name.as_deref().unwrap_or_default();
    if let (Some(a), Some(b)) = (from.side, to.side)
        && a == b
    {
        let other = if a == Side::Carrier { Side::Pbx } else { Side::Carrier };
        return Some(format!(
            "{name:?} is on the {} side like the trunk calls come from; a trunk of the {} side is wanted",
            word(a),
            word(other)
        ));
    }
    None
}

/// A route that an earlier one leaves nothing for.
fn shadowed(before: &[route::Draft<'_>], route: &route::Draft<'_>) {
    let Some(prefix) = &route.prefix else { return };
    let takes_all = |earlier: &&route::Draft<'_>| {
        earlier.from.is_some()
            && earlier.from == route.from
            && !earlier.table.has("match")
            && earlier.prefix.as_ref().is_some_and(|earlier| prefix.starts_with(earlier.as_str()))
    };
    if let Some(earlier) = before.iter().find(takes_all) {
        let earlier = earlier.prefix.as_deref().unwrap_or_default();
        let reason = format!("is never reached: an earlier route with prefix {earlier:?} takes all its calls");
        if route.table.has("prefix") {
            route.table.fault("prefix", reason);
        } else {
            route.table.fault_here(reason);
        }
    }
}

/// Carrier trunks that no route names.
fn unrouted(drafts: &Drafts<'_>) {
    for trunk in drafts.trunks.iter().filter(|trunk| trunk.side == Some(Side::Carrier)) {
        let Some(name) = trunk.name.as_deref() else { continue };
        let named = |route: &route::Draft<'_>| route.from == Some(name) || route.to.iter().any(|(_, to)| *to == name);
        if !drafts.routes.iter().any(named) {
            trunk.table.fault("name", format!("no [[route]] is from or to {name:?}, so it would carry no call"));
        }
    }
}
