//! Obeying signals: whose wish is granted, and what it does to a call.

use std::time::Instant;

use super::call::{Call, Phase};
use super::engine::Engine;
use super::protection::Protection;
use super::recorders::{self, Steered};
use super::views::{collection_view, hold_view};
use super::{Actor, Reply, Signal, SignalError};
use crate::base::ids::CallId;
use crate::config::Role;
use crate::guard::holds::Owner;
use crate::obs::event::{CollectionEnd, EndCause, HoldKind};

impl Engine {
    /// Grants or refuses a wish of the API.
    pub fn handle_signal(&mut self, now: Instant, signal: Signal) -> Result<Reply, SignalError> {
        let reply = self.grant(now, signal);
        self.tell_recorders(now);
        reply
    }

    fn grant(&mut self, now: Instant, signal: Signal) -> Result<Reply, SignalError> {
        match signal {
            Signal::Recorders => Ok(Reply::Recorders(recorders::view::views(now, &self.shared))),
            Signal::CallRecorders { call } => {
                self.signal(call, |_, s| Ok(Reply::Lines(recorders::view::lines(now, s, call))))
            }
            Signal::SteerRecorder { call, recorder, wish, ttl, actor } => {
                may_steer(&actor)?;
                self.signal(call, |_, s| {
                    let by = (&Owner::Key(actor.name.clone()), actor.may_override());
                    match recorders::steer(now, s, call, (Some(&recorder), wish, by), ttl) {
                        Steered::Unknown => Err(SignalError::NoSuchRecorder),
                        Steered::NotYours => Err(SignalError::Forbidden),
                        Steered::Done => Ok(Reply::Lines(recorders::view::lines(now, s, call))),
                    }
                })
            }
            Signal::Find { find, limit } => Ok(Reply::Calls(self.find(now, &find, limit))),
            Signal::Trunks => Ok(Reply::Trunks(self.trunks(now))),
            Signal::Get { call } => {
                self.signal(call, |call, engine| Ok(Reply::Call(Box::new(call.view(now, &engine.config)))))
            }
            Signal::TakeHolds { call, kinds, reason, ttl, actor } => {
                may_steer(&actor)?;
                let mut distinct: Vec<HoldKind> = Vec::new();
                for kind in &kinds {
                    if distinct.contains(kind) {
                        return Err(SignalError::BadKinds);
                    }
                    distinct.push(*kind);
                }
                if distinct.is_empty() {
                    return Err(SignalError::BadKinds);
                }
                self.signal(call, |call, s| {
                    let protection = &mut call.core.protection;
                    let owner = Owner::Key(actor.name.clone());
                    let mut taken = Vec::new();
                    for kind in kinds {
                        let what = (kind, owner.clone());
                        match protection.take(now, &mut s.random, what, &reason, ttl, &mut s.out) {
                            Ok(hold) => taken.push(hold_view(now, &hold)),
                            Err(why) => {
                                // All or none: the asker would not learn of the ones it got.
                                for hold in taken {
                                    protection.release(now, hold.id, (&owner, false), &mut s.out)?;
                                }
                                return Err(why.into());
                            }
                        }
                    }
                    Ok(Reply::Holds(taken))
                })
            }
            Signal::RenewHold { call, hold, ttl, actor } => {
                may_steer(&actor)?;
                self.signal(call, |call, s| {
                    let by = (&Owner::Key(actor.name.clone()), actor.may_override());
                    let hold = call.core.protection.renew(now, hold, by, ttl, &mut s.out)?;
                    Ok(Reply::Holds(vec![hold_view(now, &hold)]))
                })
            }
            Signal::ReleaseHold { call, hold, actor } => {
                may_steer(&actor)?;
                self.signal(call, |call, s| {
                    let by = (&Owner::Key(actor.name.clone()), actor.may_override());
                    call.core.protection.release(now, hold, by, &mut s.out)?;
                    Ok(Reply::Done)
                })
            }
            Signal::StartCollection { call, request, actor } => {
                may_collect(&actor)?;
                let spec = request.spec()?;
                self.signal(call, |call, s| {
                    let protection = may_capture(call)?;
                    let id = protection.start_collection(now, &mut s.random, (spec, &actor.name), &mut s.out)?;
                    collection_view(protection, id).map(Reply::Collection).ok_or(SignalError::NoSuchCollection)
                })
            }
            Signal::GetCollection { call, collection } => self.signal(call, |call, _| {
                let view = collection_view(&call.core.protection, collection);
                view.map(Reply::Collection).ok_or(SignalError::NoSuchCollection)
            }),
            Signal::CancelCollection { call, collection, actor } => {
                may_collect(&actor)?;
                self.signal(call, |call, s| {
                    let protection = &mut call.core.protection;
                    if protection.collection().is_some_and(|open| open.id() == collection) {
                        // Ending it lifts its mask: that is for who opened it, or who may override.
                        if !actor.may_override() && protection.collector() != actor.name {
                            return Err(SignalError::Forbidden);
                        }
                        protection.end_collection(now, CollectionEnd::Cancelled, &mut s.out);
                    }
                    let view = collection_view(protection, collection);
                    view.map(Reply::Collection).ok_or(SignalError::NoSuchCollection)
                })
            }
            Signal::Payment { call, order, actor } => self.handle_payment_order(now, call, order, &actor),
            Signal::HangUp { call, actor } => {
                may_collect(&actor)?;
                self.signal(call, |call, s| {
                    call.end(now, s, EndCause::Operator, 480);
                    Ok(Reply::Done)
                })
            }
        }
    }

    pub(super) fn signal<R>(
        &mut self,
        id: CallId,
        obey: impl FnOnce(&mut Call, &mut super::shared::Shared) -> Result<R, SignalError>,
    ) -> Result<R, SignalError> {
        self.with_call(id, obey).unwrap_or(Err(SignalError::NoSuchCall))
    }
}

/// The protection of a call on which something can be captured: it is answered, and nothing else is.
pub(super) fn may_capture(call: &mut Call) -> Result<&mut Protection, SignalError> {
    if !matches!(call.phase, Phase::Established(_)) {
        return Err(SignalError::NotAnswered);
    }
    let protection = &mut call.core.protection;
    if protection.collection().is_some() {
        return Err(SignalError::CollectionOpen);
    }
    if protection.payment().is_some() {
        return Err(SignalError::PaymentOpen);
    }
    Ok(protection)
}

/// Whether a role may take and release holds and run payments at all.
pub(super) fn may_steer(actor: &Actor) -> Result<(), SignalError> {
    match actor.role {
        Role::Admin | Role::Supervisor | Role::Integration | Role::Agent => Ok(()),
        Role::Auditor => Err(SignalError::Forbidden),
    }
}

/// Whether a role may collect digits and end calls.
fn may_collect(actor: &Actor) -> Result<(), SignalError> {
    match actor.role {
        Role::Admin | Role::Supervisor | Role::Integration => Ok(()),
        Role::Agent | Role::Auditor => Err(SignalError::Forbidden),
    }
}
