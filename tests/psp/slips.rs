//! What a connector may not say, told with file, line, key and reason.

use crate::kit::{BASE, OWN, parse};

/// The faults of a text behind the small example, their lines counted from its first line.
fn faults(text: &str) -> Vec<String> {
    let before = BASE.lines().count();
    let found = parse(text).expect_err(text);
    found.iter().map(|fault| format!("{}: {}: {}", fault.line - before, fault.key, fault.reason)).collect()
}

#[test]
fn a_connector_of_ones_own_is_read() {
    let config = parse(OWN).unwrap_or_else(|faults| panic!("{faults}"));
    let connector = &config.connectors[0];
    assert_eq!((connector.name.as_str(), connector.hosts.len(), connector.sandbox), ("own", 1, false));
    assert!(connector.charge[0].commits && !format!("{connector:?}").contains(crate::kit::KEY));
}

#[test]
fn a_configuration_without_connectors_has_the_sandbox() {
    let config = parse("").unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!((config.connectors.len(), config.connectors[0].name.as_str()), (1, "sandbox"));
    assert!(config.connectors[0].sandbox);
}

/// Key and words of the only fault that a change to [`OWN`] makes.
fn slip(from: &str, to: &str, line: usize, key: &str, words: &str) {
    assert!(OWN.contains(from), "{from}");
    let found = faults(&OWN.replacen(from, to, 1));
    let begins = format!("{line}: connector[0]{key}: ");
    let told = found.iter().filter(|fault| fault.starts_with(&begins) && fault.contains(words)).count();
    assert_eq!((told, found.len()), (1, 1), "{from} -> {to}: wanted {begins}…{words}, got {found:#?}");
}

#[test]
fn a_secret_in_the_text_is_refused_and_not_repeated() {
    let long = "aB3".repeat(16);
    for (from, to, line, key) in [
        ("env = \"PSP_KEY\"", "value = \"sk_live_abcdefgh\"".to_owned(), 23, ".secret[0].value"),
        ("env = \"PSP_KEY\"", "env = \"sk_live_abcdefgh\"".to_owned(), 23, ".secret[0].env"),
        ("Bearer ${secret.key}", "Bearer abcdefgh".to_owned(), 8, ".step[0].headers[0]"),
        ("Bearer ${secret.key}", format!("Bearer ${{secret.key}}{long}"), 8, ".step[0].headers[0]"),
        ("${card.number}", long.clone(), 9, ".step[0].json"),
    ] {
        let found = faults(&OWN.replacen(from, &to, 1));
        let begins = format!("{line}: connector[0]{key}: ");
        assert!(found.iter().any(|fault| fault.starts_with(&begins)), "{to}: {found:#?}");
        let all = found.join("\n");
        assert!(all.contains("secret") && !all.contains("abcdefgh") && !all.contains(&long), "{to}: {all}");
    }
}

#[test]
fn what_the_customer_keys_goes_into_bodies_only() {
    slip("url = \"/pay\"", "url = \"/pay/${card.number}\"", 7, ".step[0].url", "do not go into addresses");
    slip("Bearer ${secret.key}", "${card.number}", 8, ".step[0].headers[0]", "does not go into headers");
    slip("/pay/${idempotency}", "/pay/${secret.key}", 18, ".step[1].url", "do not go into addresses");
}

#[test]
fn requests_go_encrypted_and_to_named_hosts() {
    slip("https://psp.example", "http://psp.example", 3, ".url", "is not encrypted");
    slip("url = \"/pay\"", "url = \"http://psp.example/pay\"", 7, ".step[0].url", "is not encrypted");
    slip("url = \"/pay\"", "url = \"https://evil.example/pay\"", 1, ".hosts", "is not among them");
    slip("url = \"/pay\"", "url = \"https://${variable.host}/pay\"", 7, ".step[0].url", "written out");
    slip("url = \"https://psp.example\"\n", "hosts = [\"not a host\"]\n", 3, ".hosts[0]", "is no host");
}

#[test]
fn a_lost_answer_can_be_settled() {
    slip("commits = true", "commits = false", 4, ".step", "has commits = true");
    let without = &OWN[..OWN.find("[[connector.step]]\nof = \"query\"").expect("there")];
    let found = faults(&format!("{without}[[connector.secret]]\nname = \"key\"\nenv = \"K\"\n"));
    assert!(found.len() == 1 && found[0].contains("could never be settled"), "{found:#?}");
    slip("/pay/${idempotency}", "/pay/${value.id}", 4, ".step", "no answer to an earlier step gives");
}

#[test]
fn slips_of_the_pen_are_told() {
    slip("${card.number}", "${card.nubmer}", 9, ".step[0].json", "did you mean \"card.number\"?");
    slip("'{\"card\"", "'{\"card\" \"", 9, ".step[0].json", "is not JSON");
    slip("outcome = \"approved\"", "outcome = \"aproved\"", 13, ".step[0].answer[0].outcome", "did you mean");
    slip("status = \"200\"", "status = \"2000\"", 12, ".step[0].answer[0].status", "is no status");
    slip("status = \"200\"", "when = \"id=1\"", 12, ".step[0].answer[0].when", "is no JSON pointer");
    slip(
        "outcome = \"approved\"",
        "outcome = \"re-enter\"\nfield = \"card\"\nerror = \"invalid-date\"",
        14,
        ".step[0].answer[0].field",
        "not known here",
    );
    slip("outcome = \"approved\"", "outcome = \"next\"", 4, ".step", "no next step");
    slip(
        "outcome = \"approved\"",
        "outcome = \"approved\"\nfield = \"security-code\"",
        14,
        ".step[0].answer[0].field",
        "re-enter",
    );
    slip("name = \"key\"", "name = \"other\"", 4, ".step", "named \"key\"");
    slip(
        "url = \"https://psp.example\"\n",
        "url = \"https://psp.example\"\npreset = \"strip\"\n",
        4,
        ".preset",
        "did you mean \"stripe\"?",
    );
    slip(
        "url = \"https://psp.example\"\n",
        "url = \"https://psp.example\"\ndeadline_s = 3\n",
        1,
        ".timeout_ms",
        "longer than deadline_s",
    );
    slip(
        "url = \"https://psp.example\"\n",
        "url = \"https://psp.example\"\nattempts = 0\n",
        4,
        ".attempts",
        "is not from 1 to 20",
    );
    slip(
        "url = \"https://psp.example\"\n",
        "url = \"https://psp.example\"\ncertificate = \"a.pem\"\n",
        1,
        ".key",
        "is missing",
    );
    slip("method = \"GET\"", "method = \"GET\"\nform = [\"a=b\"]", 17, ".step[1].method", "has no body");
    slip(
        "[[connector.secret]]\n",
        "[connector.auth]\nkind = \"bearer\"\nsecret = \"kei\"\n[[connector.secret]]\n",
        21,
        ".auth",
        "named \"kei\" is wanted",
    );
    slip(
        "[[connector.secret]]\n",
        "[connector.auth]\nkind = \"none\"\nsecret = \"key\"\n[[connector.secret]]\n",
        23,
        ".auth.secret",
        "does not belong",
    );
}
