//! The body of a recording session's INVITE: the session description and the metadata as parts (RFC 7866 section 9.1, RFC
//! 9806). The boundary is drawn, and drawn again should it stand in a part.

use rand::RngExt;

use crate::base::Random;
use crate::config::Dialect;

/// The type of the metadata in a dialect.
pub(super) fn metadata_type(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Standard | Dialect::Oracle => "application/rs-metadata+xml",
        Dialect::AudioCodes => "application/rs-metadata",
    }
}

/// Content-Type and body of both parts together.
pub(super) fn parts(random: &mut Random, dialect: Dialect, sdp: &str, metadata: &str) -> (String, Vec<u8>) {
    let boundary = loop {
        let boundary = format!("part-{:016x}", random.random::<u64>());
        if !sdp.contains(&boundary) && !metadata.contains(&boundary) {
            break boundary;
        }
    };
    let kind = metadata_type(dialect);
    let body = format!(
        "--{boundary}\r\nContent-Type: application/sdp\r\n\r\n{sdp}\r\n--{boundary}\r\nContent-Type: {kind}\r\n\
         Content-Disposition: recording-session\r\n\r\n{metadata}\r\n--{boundary}--\r\n"
    );
    (format!("multipart/mixed;boundary={boundary}"), body.into_bytes())
}
