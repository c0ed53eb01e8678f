//! Transactions by number: a slot and a generation in one `u64`, so that a stale id finds nothing, with the soonest
//! timer of each kept in a heap. Entries of the heap that no longer hold are skipped when they come up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// What a slab keeps: something that wants to be woken.
pub(super) trait Timed {
    /// When it wants to be woken.
    fn wake(&self) -> Option<Instant>;
}

struct Slot<T> {
    generation: u32,
    value: Option<Box<T>>,
    /// The heap entry that holds for this slot.
    queued: Option<Instant>,
}

/// Numbered values with timers.
pub(super) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    heap: BinaryHeap<Reverse<(Instant, u64)>>,
}

impl<T: Timed> Slab<T> {
    pub(super) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), heap: BinaryHeap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The id the next [`Slab::insert`] will give.
    pub(super) fn next_id(&self) -> u64 {
        match self.free.last() {
            Some(slot) => id(self.slots[*slot as usize].generation, *slot),
            None => id(1, self.slots.len() as u32),
        }
    }

    pub(super) fn insert(&mut self, value: T) -> u64 {
        let number = self.next_id();
        match self.free.pop() {
            Some(slot) => self.slots[slot as usize].value = Some(Box::new(value)),
            None => self.slots.push(Slot { generation: 1, value: Some(Box::new(value)), queued: None }),
        }
        self.schedule(number);
        number
    }

    fn slot(&self, number: u64) -> Option<&Slot<T>> {
        self.slots.get(number as u32 as usize).filter(|s| s.generation == (number >> 32) as u32 && s.value.is_some())
    }

    fn slot_mut(&mut self, number: u64) -> Option<&mut Slot<T>> {
        let generation = (number >> 32) as u32;
        self.slots.get_mut(number as u32 as usize).filter(|s| s.generation == generation && s.value.is_some())
    }

    pub(super) fn get(&self, number: u64) -> Option<&T> {
        self.slot(number)?.value.as_deref()
    }

    /// Call [`Slab::schedule`] after changing timers.
    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        self.slot_mut(number)?.value.as_deref_mut()
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Box<T>> {
        let slot = self.slot_mut(number)?;
        let value = slot.value.take();
        slot.queued = None;
        slot.generation = slot.generation.wrapping_add(1).max(1);
        self.free.push(number as u32);
        value
    }

    /// Every live id, in slot order.
    pub(super) fn ids(&self) -> impl Iterator<Item = u64> {
        self.slots.iter().enumerate().filter(|(_, s)| s.value.is_some()).map(|(slot, s)| id(s.generation, slot as u32))
    }

    /// Queues the soonest timer of `number`.
    pub(super) fn schedule(&mut self, number: u64) {
        let Some(slot) = self.slot_mut(number) else { return };
        let wake = slot.value.as_ref().and_then(|v| v.wake());
        if let Some(at) = wake
            && slot.queued.is_none_or(|queued| at < queued)
        {
            slot.queued = Some(at);
            self.heap.push(Reverse((at, number)));
        }
    }

    /// The next value with a due timer. Handle it, then [`Slab::schedule`] or [`Slab::remove`] it.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<u64> {
        while let Some(Reverse((at, number))) = self.heap.peek().copied() {
            if at > now {
                return None;
            }
            self.heap.pop();
            match self.slot_mut(number) {
                Some(slot) if slot.queued == Some(at) => {
                    slot.queued = None;
                    return Some(number);
                }
                _ => {}
            }
        }
        None
    }

    /// The soonest timer. Drops what no longer holds from the front of the heap first, so that nobody is woken for it.
    pub(super) fn soonest(&mut self) -> Option<Instant> {
        while let Some(Reverse((at, number))) = self.heap.peek().copied() {
            match self.slot(number) {
                Some(slot) if slot.queued == Some(at) => return Some(at),
                _ => self.heap.pop(),
            };
        }
        None
    }
}

fn id(generation: u32, slot: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(slot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    struct At(Option<Instant>);

    impl Timed for At {
        fn wake(&self) -> Option<Instant> {
            self.0
        }
    }

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn timers_come_up_in_order_and_stale_ones_never() {
        let t0 = Instant::now();
        let ms = |n| t0 + Duration::from_millis(n);
        let mut slab = Slab::new();
        let a = slab.insert(At(Some(ms(30))));
        let b = slab.insert(At(Some(ms(20))));
        slab.get_mut(a).expect("live").0 = Some(ms(10));
        slab.schedule(a);
        assert_eq!(slab.soonest(), Some(ms(10)));
        assert_eq!(slab.take_due(ms(15)), Some(a));
        slab.remove(a);
        assert_eq!(slab.take_due(ms(15)), None);
        assert_eq!(slab.soonest(), Some(ms(20)));
        assert_eq!(slab.take_due(ms(40)), Some(b));
        slab.get_mut(b).expect("live").0 = None;
        slab.schedule(b);
        assert_eq!((slab.take_due(ms(99)), slab.soonest()), (None, None));
    }

    #[test]
    fn an_id_is_never_mistaken_for_a_later_one() {
        let mut slab = Slab::new();
        let first = slab.insert(At(None));
        assert!(slab.remove(first).is_some());
        assert_eq!(slab.next_id(), slab.insert(At(None)));
        assert!(slab.get(first).is_none() && slab.remove(first).is_none());
        assert_eq!((slab.len(), slab.ids().count()), (1, 1));
    }
}
