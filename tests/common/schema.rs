//! Recorders' metadata held against RFC 7865's schema by xmllint, and read by a parser that nobody here wrote.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{installed, skip};

/// Panics unless `xml` is valid.
pub fn check(test: &str, xml: &str) {
    roxmltree::Document::parse(xml).unwrap_or_else(|error| panic!("{test}: {error}\n{xml}"));
    if !installed("xmllint") {
        return skip(test, "xmllint is not installed (Debian: apt-get install libxml2-utils)");
    }
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/siprec/rfc7865.xsd");
    let mut child = Command::new("xmllint")
        .args(["--noout", "--nonet", "--schema"])
        .arg(schema)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("xmllint starts");
    child.stdin.take().expect("its input").write_all(xml.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("xmllint");
    assert!(output.status.success(), "{test}: {}\n{xml}", String::from_utf8_lossy(&output.stderr));
}
