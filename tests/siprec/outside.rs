//! SIPp as the recording server: a scenario written from RFC 7866, its checks are SIPp's own. The sound it asks for is counted
//! at the ports it names.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use serde_json::json;

use crate::common::{free_address, installed, skip};
use crate::process::Sipp;
use crate::{all, open, until, wait};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sipp_is_a_recorder_over_udp_and_tcp() {
    all(vec![
        (
            "sipp takes a session over udp and is told of a pause",
            Box::pin(sipp_takes_a_session_over_udp_and_is_told_of_a_pause()),
        ),
        (
            "sipp takes a session over tcp and is told of a pause",
            Box::pin(sipp_takes_a_session_over_tcp_and_is_told_of_a_pause()),
        ),
    ])
    .await;
}

/// Counts what comes to a port of its own.
fn counted() -> (u16, Arc<AtomicU32>) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    let port = socket.local_addr().expect("its address").port();
    let count = Arc::new(AtomicU32::new(0));
    let held = Arc::downgrade(&count);
    std::thread::spawn(move || {
        let mut room = [0; 2_048];
        // Ends with whoever looks at the count.
        while let Some(count) = held.upgrade() {
            if socket.recv(&mut room).is_ok() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    (port, count)
}

async fn sipp_records(transport: &'static str) {
    if !installed("sipp") {
        return skip("SIPp as a recorder", "sipp is not installed (Debian: apt-get install sip-tester)");
    }
    static DIR: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a directory"));
    let dir = DIR.path().join(transport);
    std::fs::create_dir_all(&dir).expect("a directory");
    let ((left, heard), (right, other)) = (counted(), counted());
    let scenario = include_str!("../sipp/srs_pause.xml");
    let scenario = scenario.replace("LEFT", &left.to_string()).replace("RIGHT", &right.to_string());
    std::fs::write(dir.join("srs_pause.xml"), scenario).expect("the scenario");
    let at = free_address();
    let mode = if transport == "tcp" { "t1" } else { "u1" };
    let sipp = Sipp::start(&dir, "srs_pause", at, None, &["-m", "1", "-t", mode]);
    wait(400).await;
    let side = free_address();
    let sections = format!(
        "\n[[listener]]\nname = \"recorder-side\"\ntransport = \"{transport}\"\naddress = \"{side}\"\n\n[[recorder]]\n\
         name = \"sipp\"\nkind = \"siprec\"\nlistener = \"recorder-side\"\nremotes = [\"{at}\"]\nalive_s = 0\n"
    );
    let mut desk = open(&["sipp"], &sections).await;
    let call = desk.call().await;
    until("sound", || heard.load(Ordering::SeqCst) > 20 && other.load(Ordering::SeqCst) > 20).await;
    let holds = format!("/v1/calls/{}/holds", call.id);
    let hold = desk.ask("POST", &holds, Some(json!({"kind": "pause", "reason": "card", "ttl_s": 60})));
    wait(200).await;
    let before = heard.load(Ordering::SeqCst) + other.load(Ordering::SeqCst);
    wait(1_000).await;
    assert_eq!(heard.load(Ordering::SeqCst) + other.load(Ordering::SeqCst), before, "packets in the pause");
    desk.ask("DELETE", &format!("{holds}/{}", hold["holds"][0]["id"].as_str().expect("an id")), None);
    until("sound again", || heard.load(Ordering::SeqCst) + other.load(Ordering::SeqCst) > before + 20).await;
    desk.hang_up(call).await;
    tokio::task::block_in_place(|| sipp.succeeds());
}

async fn sipp_takes_a_session_over_udp_and_is_told_of_a_pause() {
    sipp_records("udp").await;
}

async fn sipp_takes_a_session_over_tcp_and_is_told_of_a_pause() {
    sipp_records("tcp").await;
}
