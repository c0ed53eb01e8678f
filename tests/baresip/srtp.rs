//! baresip with its `srtp` module on one leg, a plain telephone on the other, a real node between: sound both ways, keys
//! masked, the suite both agreed on. Its SDES, its offers and its SRTP (libre) are nobody's here.

use super::*;

/// What the trunk of baresip is configured with.
fn trunk(suite: &str) -> String {
    format!("srtp = \"required\"\nsrtp_suites = [\"{suite}\"]\n")
}

fn ready(test: &str) -> bool {
    let there = super::ready(test) && Path::new(MODULES).join("srtp.so").is_file();
    if !there {
        skip(test, "baresip or its srtp module is not installed (Debian: apt-get install baresip-core)");
    }
    there
}

/// Both sides agreed on `suite`, by baresip's own words.
fn assert_suite(log: &str, suite: &str) {
    assert!(log.contains(&format!("SRTP is Enabled (cryptosuite={suite})")), "{log}");
    assert!(!log.contains("failed to decrypt RTP"), "{log}");
}

/// A plain customer calls baresip behind an encrypted trunk.
fn agent_with(suite: &'static str, guard: &'static str) {
    let agent = Baresip::start_with(port(), 600.0, true, "srtp-mand");
    let trunks = [String::new(), trunk(suite)];
    let (heard, log) = as_agent_of(agent, guard, trunks);
    assert_suite(&log, suite);
    assert!(sounds(&heard, 440.0), "baresip hears the caller");
    let found = Attackers::new().listen(&heard);
    match guard {
        "off" => assert!(log.matches("received event").count() == 12 && found.decoded >= 4, "{found:?} {log}"),
        _ => assert!(log.matches("received event").count() == 0 && found.nothing_decoded(), "{found:?} {log}"),
    }
}

#[test]
fn an_encrypted_agent_hears_the_plain_caller_and_no_key_of_it() {
    if ready("baresip_srtp_agent_gcm") {
        agent_with("AEAD_AES_256_GCM", "always");
    }
}

#[test]
fn an_encrypted_agent_with_the_shorter_key_hears_no_key_either() {
    if ready("baresip_srtp_agent_gcm_128") {
        agent_with("AEAD_AES_128_GCM", "always");
    }
}

#[test]
fn an_unguarded_encrypted_agent_gets_every_key() {
    if ready("baresip_srtp_agent_unguarded") {
        agent_with("AES_CM_128_HMAC_SHA1_32", "off");
    }
}

#[test]
fn an_encrypted_caller_is_heard_by_a_plain_agent_and_its_keys_are_masked() {
    if !ready("baresip_srtp_caller") {
        return;
    }
    // The only one baresip offers.
    let suite = "AES_CM_128_HMAC_SHA1_80";
    let caller = Baresip::start_with(port(), 440.0, false, "srtp-mand");
    let log = as_caller_of(caller, [trunk(suite), String::new()]);
    assert_suite(&log, suite);
}

#[test]
fn a_caller_that_only_may_encrypt_does_so_where_the_trunk_may_too() {
    if !ready("baresip_srtp_optional") {
        return;
    }
    let caller = Baresip::start_with(port(), 440.0, false, "srtp");
    let log = as_caller_of(caller, ["srtp = \"optional\"\nrtcp_mux = true\n".to_owned(), String::new()]);
    assert_suite(&log, "AES_CM_128_HMAC_SHA1_80");
}
