//! Forwarding in virtual time: recorders that go and come, spills that cannot be read, lists that change.
#![allow(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};

use rand::SeedableRng;

use super::*;

const SEC: Duration = Duration::from_secs(1);

fn ids(random: &mut Random, count: usize) -> Vec<RecordingId> {
    (0..count).map(|_| RecordingId::draw(random)).collect()
}

fn yes(_: usize) -> bool {
    true
}

#[test]
fn the_oldest_goes_first_and_no_more_at_once_than_may_be() {
    let mut random = Random::seed_from_u64(1);
    let now = Instant::now();
    let ids = ids(&mut random, 5);
    let mut spills = Spills::new([2, 0]);
    for (at, id) in ids.iter().enumerate().rev() {
        spills.handle_one(0, WallMs(at as u64), *id);
        spills.handle_one(1, WallMs(at as u64), RecordingId::draw(&mut random));
    }
    spills.handle_one(0, WallMs(9), ids[0]);
    assert_eq!((spills.counts(0), spills.counts(1)), ((5, 0), (0, 0)), "nobody waits for who gets none");
    let begun: Vec<_> = std::iter::from_fn(|| spills.poll(now, &mut yes)).collect();
    assert_eq!(begun, [(0, ids[0]), (0, ids[1])]);
    spills.handle_done(ids[1]);
    assert_eq!(spills.poll(now, &mut yes), Some((0, ids[2])));
    assert_eq!(spills.poll(now, &mut yes), None);
    spills.stop();
    spills.handle_done(ids[0]);
    assert_eq!((spills.poll(now, &mut yes), spills.poll_timeout()), (None, None));
}

#[test]
fn a_recorder_that_fails_rests_longer_each_time_and_takes_up_again_when_it_is_well() {
    let mut random = Random::seed_from_u64(2);
    let mut now = Instant::now();
    let ids = ids(&mut random, 3);
    let mut spills = Spills::new([1]);
    ids.iter().enumerate().for_each(|(at, id)| spills.handle_one(0, WallMs(at as u64), *id));
    let mut rests = Vec::new();
    for _ in 0..12 {
        let (_, recording) = spills.poll(now, &mut yes).expect("one");
        spills.handle_failed(now, &mut random, recording, Fault::Recorder).expect("it was active");
        assert_eq!(spills.poll(now, &mut yes), None, "the others are not tried either");
        let at = spills.poll_timeout().expect("a next try");
        rests.push(at - now);
        now = at;
    }
    assert!(rests[0] >= 4 * SEC && rests[0] <= 6 * SEC, "{rests:?}");
    assert!(rests.iter().all(|rest| *rest <= LONGEST.mul_f64(1.2)) && rests[11] > 200 * SEC, "{rests:?}");
    let (_, well) = spills.poll(now, &mut yes).expect("one");
    spills.handle_done(well);
    assert!(spills.poll(now, &mut yes).is_some(), "nobody rests for its sake any more");
}

#[test]
fn one_that_cannot_be_read_keeps_nobody_else_waiting() {
    let mut random = Random::seed_from_u64(3);
    let mut now = Instant::now();
    let ids = ids(&mut random, 2);
    let mut spills = Spills::new([1]);
    ids.iter().enumerate().for_each(|(at, id)| spills.handle_one(0, WallMs(at as u64), *id));
    assert_eq!(spills.poll(now, &mut yes), Some((0, ids[0])));
    let rest = spills.handle_failed(now, &mut random, ids[0], Fault::Recording).expect("active");
    assert_eq!(spills.poll(now, &mut yes), Some((0, ids[1])), "at once");
    now += rest;
    spills.handle_one(0, WallMs(0), RecordingId::draw(&mut random));
    spills.handle_done(ids[1]);
    assert_ne!(spills.poll(now, &mut yes), Some((0, ids[0])), "those that did not fail come first");
}

#[test]
fn what_is_gone_from_the_list_is_told_and_forgotten() {
    let mut random = Random::seed_from_u64(4);
    let now = Instant::now();
    let ids = ids(&mut random, 4);
    let mut spills = Spills::new([1]);
    let list: Vec<_> = ids.iter().enumerate().map(|(at, id)| (WallMs(at as u64), *id)).collect();
    assert!(spills.handle_all(0, &list).is_empty());
    assert_eq!(spills.poll(now, &mut yes), Some((0, ids[0])));
    assert_eq!(spills.handle_all(0, &list[2..]), [ids[1]], "what is being sent is left to its end");
    assert_eq!(spills.counts(0), (3, 1));
    spills.handle_gone(ids[0]);
    assert_eq!(spills.counts(0), (2, 0));
    assert_eq!(spills.handle_failed(now, &mut random, ids[0], Fault::Recorder), None);
}

/// Whatever happens: never two of the same, never too many, and in the end each once.
#[test]
fn each_spill_gets_through_once_whatever_happens_on_the_way() {
    for seed in 0..60 {
        let mut random = Random::seed_from_u64(seed);
        let mut now = Instant::now();
        let end = now + 7_200 * SEC;
        let most = [random.random_range(1..4usize), random.random_range(1..4usize)];
        let mut spills = Spills::new(most);
        let mut wanted = BTreeMap::new();
        let mut running: BTreeMap<RecordingId, (usize, Instant, bool)> = BTreeMap::new();
        let mut done = BTreeSet::new();
        let (mut up, mut turn_at) = ([false; 2], now);
        let mut left = 40u64;
        while left > 0 || done.len() < wanted.len() {
            assert!(now < end + 3 * LONGEST_REST, "seed {seed}: {} of {} got through", done.len(), wanted.len());
            if left > 0 && random.random_bool(0.3) {
                let (recorder, id) = (random.random_range(0..2usize), RecordingId::draw(&mut random));
                spills.handle_one(recorder, WallMs(left), id);
                wanted.insert(id, recorder);
                left -= 1;
            }
            if turn_at <= now {
                // In the second hour all is well.
                up = if now >= end { [true; 2] } else { [random.random(), random.random()] };
                turn_at = now + SEC * random.random_range(1..400);
            }
            let over: Vec<_> =
                running.iter().filter(|(_, (_, at, _))| *at <= now).map(|(id, run)| (*id, *run)).collect();
            for (id, (recorder, _, readable)) in over {
                running.remove(&id);
                if !readable {
                    spills.handle_failed(now, &mut random, id, Fault::Recording);
                } else if up[recorder] {
                    spills.handle_done(id);
                    assert!(done.insert(id), "seed {seed}: {id} got through twice");
                } else {
                    spills.handle_failed(now, &mut random, id, Fault::Recorder);
                }
            }
            while let Some((recorder, id)) = spills.poll(now, &mut |recorder| up[recorder]) {
                assert_eq!(wanted[&id], recorder);
                let readable = now >= end || random.random_bool(0.9);
                let lasts = SEC * random.random_range(1..300);
                assert!(running.insert(id, (recorder, now + lasts, readable)).is_none(), "seed {seed}: two of {id}");
                let at_once = running.values().filter(|(other, _, _)| *other == recorder).count();
                assert!(at_once <= most[recorder], "seed {seed}: {at_once} at once");
            }
            let ends = running.values().map(|(_, at, _)| *at).min();
            let next = soonest(soonest(spills.poll_timeout(), ends), Some(now + 20 * SEC)).expect("a time");
            assert!(next > now, "seed {seed}: it is woken for nothing");
            now = next;
        }
        assert_eq!((spills.counts(0), spills.counts(1)), ((0, 0), (0, 0)));
        assert_eq!(spills.poll_timeout(), None);
    }
}
