//! Digits over lines and networks that do what lines and networks do.

use std::io;

use super::super::lab::{HEADS, Lab, cells};
use crate::testkit::lab::impair::{Coder, Impairment};
use crate::testkit::lab::network::{Loss, Network};
use crate::testkit::lab::stimuli::{Stimulus, d1};
use crate::testkit::lab::{Cell, Table};
use crate::testkit::tones::{Law, Plan};

/// Measures over each.
pub fn measure(lab: &mut Lab) -> io::Result<()> {
    let plan = Plan {
        tone_ms: vec![50.0, 65.0, 100.0],
        pause_ms: vec![50.0],
        dbm0: (-20.0, -6.0),
        twist_db: (-4.0, 3.0),
        offset_percent: (0.0, 1.5),
        ..d1()
    };
    let through = |impairment: Impairment| (impairment.name(), Stimulus::plain(plan.clone()).through(vec![impairment]));
    let by = |name: &str, network: Network| (name.to_owned(), Stimulus::plain(plan.clone()).by(network));
    let mut rows = vec![("nothing".to_owned(), Stimulus::plain(plan.clone()))];
    rows.extend([20.0, 12.0].map(|snr_db| through(Impairment::Noise { snr_db })));
    rows.extend([20.0, 12.0].map(|under_db| through(Impairment::Babble { talkers: 6, under_db })));
    rows.extend([50.0, 60.0].map(|hz| through(Impairment::Hum { hz, dbm0: -20.0 })));
    rows.extend([-30.0, -20.0].map(|dbm0| through(Impairment::DialTone { dbm0 })));
    rows.push(through(Impairment::Dc { part: 0.05 }));
    rows.extend([3.0, 6.0].map(|by_db| through(Impairment::Clip { by_db })));
    rows.extend(
        [(10.0, 20.0), (20.0, 10.0), (40.0, 10.0)]
            .map(|(delay_ms, loss_db)| through(Impairment::Echo { delay_ms, loss_db })),
    );
    rows.push(through(Impairment::Tandem(vec![Law::Mu, Law::A, Law::Mu])));
    rows.push(through(Impairment::Tandem(vec![Law::Mu, Law::A, Law::Mu, Law::A, Law::Mu, Law::A, Law::Mu, Law::A])));
    rows.extend([Coder::G722, Coder::Opus(32_000), Coder::Opus(16_000)].map(|coder| through(Impairment::Coder(coder))));
    let wide =
        vec![Impairment::Coder(Coder::G722), Impairment::Tandem(vec![Law::A]), Impairment::Coder(Coder::Opus(32_000))];
    rows.push(("tandem µ → G.722 → A → Opus 32 kbit/s → µ".to_owned(), Stimulus::plain(plan.clone()).through(wide)));
    let random = |percent: f32| Network::losing(Loss::Random(percent / 100.0));
    rows.push(by("loss 1 %, random", random(1.0)));
    rows.push(by("loss 5 %, random", random(5.0)));
    rows.push(by("loss 10 %, random", random(10.0)));
    rows.push(by("loss 5 %, bursts of 3 packets", Network::losing(Loss::Bursts { share: 0.05, run: 3.0 })));
    let poor = Network { jitter_ms: 40.0, reorder: 0.05, duplicate: 0.03, buffer_ms: 80.0, ..Network::CLEAN };
    rows.push(by("jitter 40 ms, 5 % reordered, 3 % twice, buffer of 80 ms", poor));
    rows.push(by("the same, buffer of 40 ms", Network { buffer_ms: 40.0, ..poor }));
    rows.push(by("10 ms packets, loss 5 %", Network { samples: 80, ..random(5.0) }));
    rows.push(by("30 ms packets, loss 5 %", Network { samples: 240, ..random(5.0) }));
    let columns = [&["line", "digits"], &HEADS[..]].concat();
    let mut table = Table::new("lines", "Impaired lines", &columns).note(
        "16 keys, 50–100 ms, pauses of 50 ms, −6…−20 dBm0, ±1.5 % off, twist −4…+3 dB. Lost packets are silence to SpanDSP.",
    );
    let digits = lab.size(4_000, 400);
    for (name, stimulus) in rows {
        let three = lab.three(&name, &stimulus, digits);
        let head = [Cell::from(name.as_str()), three.armed.of.into()];
        let figures = [cells(Some(three.armed)), cells(Some(three.unarmed)), cells(three.spandsp)].concat();
        table.row(head.into_iter().chain(figures));
    }
    lab.report.table(table)
}
