//! How it was seen that nothing opens a destroyed recording any more: what stands in the log beside the destruction, and
//! what a command line says of it.

use std::fmt;

use serde::Serialize;

use super::Text;

/// What was done to a recording's copies, and what was seen then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Proof {
    /// Ids of the key-encryption keys that its file was tried with once its key slot was overwritten and synced; none:
    /// there was no file here.
    pub keys_tried: Vec<Text>,
    /// Whether one of them opened it. What opens is not told as destroyed.
    pub opened: bool,
    /// What opening it said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told: Option<Text>,
    /// Files unlinked here.
    pub files_deleted: u64,
    /// What became of it in the object store, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<Removed>,
}

/// What was removed from an object store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Removed {
    /// Objects deleted and then seen to be gone: the recording and its seal.
    pub objects_gone: u64,
    /// What became of the versions that a bucket may keep.
    pub versions: Versions,
}

/// Versions of a deleted object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Versions {
    /// The store gave no sign that it keeps any.
    NoneKept,
    /// So many were deleted, and the store lists none any more.
    Deleted(u64),
    /// Some may remain, for this reason. They are sealed, under a key that is not in any other copy.
    MayRemain(Text),
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.told {
            None => f.write_str("no file here")?,
            Some(told) => {
                write!(f, "key slot overwritten and synced, opening it failed with {} keys", self.keys_tried.len())?;
                write!(f, " ({told}), {} files unlinked", self.files_deleted)?;
            }
        }
        let Some(store) = &self.store else { return Ok(()) };
        f.write_str("; removed from the object store and seen to be gone")?;
        match &store.versions {
            Versions::NoneKept => Ok(()),
            Versions::Deleted(count) => write!(f, ", {count} versions deleted"),
            Versions::MayRemain(why) => write!(f, "; WARNING: versions of it may remain there: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_says_what_was_tried_and_what_remains() {
        let mut proof = Proof { keys_tried: vec!["a".into(), "b".into()], files_deleted: 2, ..Proof::default() };
        proof.told = Some("not a sealed recording".into());
        let here =
            "key slot overwritten and synced, opening it failed with 2 keys (not a sealed recording), 2 files unlinked";
        assert_eq!(proof.to_string(), here);
        proof.store = Some(Removed { objects_gone: 2, versions: Versions::MayRemain("it lists none".into()) });
        assert!(proof.to_string().ends_with("WARNING: versions of it may remain there: it lists none"), "{proof}");
        let json = serde_json::to_value(&proof).expect("JSON");
        let wanted = serde_json::json!({"keys_tried": ["a", "b"], "opened": false, "told": "not a sealed recording",
            "files_deleted": 2, "store": {"objects_gone": 2, "versions": {"may-remain": "it lists none"}}});
        assert_eq!(json, wanted);
    }
}
