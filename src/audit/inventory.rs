//! What a configuration holds that PCI DSS 10.2.1.5 and 10.2.1.7 want to see come and go: API keys, key-encryption keys,
//! listeners, trunks, connectors, receivers of webhooks, each by name with a fingerprint that tells a change and nothing
//! else. Two inventories go in, the differences come out as actions.

use std::collections::BTreeMap;
use std::fmt::Debug;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Action, Made, Text, Thing};
use crate::config::Config;

/// The things of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// SHA-256 of the configuration's text, in hexadecimal.
    pub configuration: String,
    /// Kind and name to role and fingerprint.
    things: BTreeMap<String, (Option<String>, String)>,
}

const KINDS: [(Thing, &str); 6] = [
    (Thing::ApiKey, "api-key"),
    (Thing::KeyEncryptionKey, "key-encryption-key"),
    (Thing::Connector, "connector"),
    (Thing::Trunk, "trunk"),
    (Thing::Listener, "listener"),
    (Thing::Webhook, "webhook"),
];

fn word(thing: Thing) -> &'static str {
    KINDS.iter().find(|(known, _)| *known == thing).map_or("", |(_, word)| *word)
}

impl Inventory {
    /// Of a checked configuration.
    pub fn of(config: &Config) -> Self {
        let mut inventory = Self { configuration: hex::encode(config.fingerprint), things: BTreeMap::new() };
        for key in config.control.iter().flat_map(|control| &control.keys) {
            let role = serde_json::to_value(key.role).ok().and_then(|role| role.as_str().map(str::to_owned));
            inventory.add(Thing::ApiKey, &key.name, role, &key.sha256);
        }
        for kek in config.keys.current.iter().chain(&config.keys.old) {
            inventory.debugged(Thing::KeyEncryptionKey, &kek.id, &kek.id);
        }
        // What a key is wrapped in or opened by is a secret type that prints nothing.
        config.connectors.iter().for_each(|it| inventory.debugged(Thing::Connector, &it.name, it));
        config.trunks.iter().for_each(|it| inventory.debugged(Thing::Trunk, &it.name, it));
        config.listeners.iter().for_each(|it| inventory.debugged(Thing::Listener, &it.name, it));
        config.webhooks.endpoints.iter().for_each(|it| inventory.debugged(Thing::Webhook, &it.name, it));
        inventory
    }

    /// These things, but only of the kind `thing`; the others as they were `before`.
    pub fn only(mut self, thing: Thing, before: &Inventory) -> Self {
        let kind = format!("{} ", word(thing));
        self.things.retain(|key, _| key.starts_with(&kind));
        let others = before.things.iter().filter(|(key, _)| !key.starts_with(&kind));
        self.things.extend(others.map(|(key, value)| (key.clone(), value.clone())));
        self
    }

    fn debugged(&mut self, thing: Thing, name: &str, value: &impl Debug) {
        self.add(thing, name, None, format!("{value:?}").as_bytes());
    }

    fn add(&mut self, thing: Thing, name: &str, role: Option<String>, bytes: &[u8]) {
        let fingerprint = hex::encode(&Sha256::digest(bytes)[..4]);
        self.things.insert(format!("{} {name}", word(thing)), (role, fingerprint));
    }

    /// What it takes to get from `before` to this: things removed, changed, created.
    pub fn since(&self, before: &Inventory) -> Vec<Action> {
        let mut actions = Vec::new();
        let action = |key: &str, made, (role, fingerprint): &(Option<String>, String)| {
            let (kind, name) = key.split_once(' ')?;
            let (thing, _) = KINDS.iter().find(|(_, word)| *word == kind)?;
            let role = role.as_deref().map(Text::new);
            let fingerprint = Some(fingerprint.as_str().into());
            Some(Action::Thing { thing: *thing, made, name: name.into(), role, fingerprint })
        };
        for (key, value) in &before.things {
            match self.things.get(key) {
                None => actions.extend(action(key, Made::Removed, value)),
                Some(now) if now != value => actions.extend(action(key, Made::Changed, now)),
                Some(_) => {}
            }
        }
        let new = self.things.iter().filter(|(key, _)| !before.things.contains_key(*key));
        actions.extend(new.filter_map(|(key, value)| action(key, Made::Created, value)));
        actions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: &str = include_str!("../../config/reference.toml");

    fn of(text: &str) -> Inventory {
        Inventory::of(&Config::parse("t", text).unwrap_or_else(|faults| panic!("{faults}")))
    }

    #[test]
    fn what_is_created_changed_and_removed_is_told_by_kind_and_name() {
        let before = of(REFERENCE);
        assert_eq!(before.since(&before), []);
        let first = before.since(&Inventory::default());
        assert!(first.iter().all(|action| matches!(action, Action::Thing { made: Made::Created, .. })), "{first:?}");
        let after = of(&REFERENCE
            .replace("id = \"2026-10\"", "id = \"2026-09\"")
            .replace("role = \"integration\"", "role = \"admin\""));
        let told: Vec<String> = after
            .since(&before)
            .iter()
            .filter_map(|action| match action {
                Action::Thing { thing, made, name, role, .. } => {
                    Some(format!("{thing:?} {made:?} {name} {}", role.as_ref().map_or("", Text::as_str)))
                }
                _ => None,
            })
            .collect();
        assert_eq!(
            told,
            ["ApiKey Changed crm admin", "KeyEncryptionKey Removed 2026-10 ", "KeyEncryptionKey Created 2026-09 "]
        );
        let mixed = after.clone().only(Thing::ApiKey, &before).since(&before);
        assert!(matches!(&mixed[..], [Action::Thing { thing: Thing::ApiKey, .. }]), "the others as before: {mixed:?}");
        let text = serde_json::to_string(&before).expect("json");
        assert_eq!(serde_json::from_str::<Inventory>(&text).expect("read"), before);
    }
}
