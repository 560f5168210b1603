//! Random histories from a seed: the same on every machine and in every run.

use super::commands::COMMANDS;
use super::types::Type;
use super::{EVENTS, Event};

/// A small generator of random numbers (xorshift64*, Vigna 2016).
pub(crate) struct Random(u64);

impl Random {
    /// A generator of the numbers that belong to a seed.
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..5 {
            random.next();
        }
        random
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn number(&mut self) -> u32 {
        self.next() as u32
    }

    /// Puts items in random order.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }

    /// A kind of command: of each family as often. What is above the kinds chooses among items.
    fn command(&mut self, of: Type) -> u32 {
        let families = of.families();
        let kinds = &families[self.below(families.len() as u64) as usize];
        kinds.start + self.below(kinds.len() as u64) as u32 + COMMANDS * self.below(1 << 12) as u32
    }

    /// An event of a kind, with a command of a type where it is one.
    fn event(&mut self, kind: u8, of: Type) -> Event {
        let number = match kind {
            0..10 => self.number() & 0xff | self.command(of) << 8,
            35 => self.command(of) << 4,
            _ => self.number(),
        };
        (kind, number)
    }

    /// A history of a type: one in three of anything, the others dwell on a few kinds of events and commands, so that these meet often.
    pub(crate) fn history(&mut self, of: Type) -> Vec<Event> {
        let length = 10 + self.below(90);
        if self.below(3) == 0 {
            let event = |random: &mut Self| {
                let kind = random.below(EVENTS.into()) as u8;
                random.event(kind, of)
            };
            return (0..length).map(|_| event(self)).collect();
        }
        let favourites: Vec<u8> = (0..10).map(|_| self.below(EVENTS.into()) as u8).collect();
        let commands: Vec<u32> = (0..5).map(|_| self.command(of)).collect();
        let event = |random: &mut Self| {
            let kind = match random.below(8) {
                0 => random.below(EVENTS.into()) as u8,
                1 | 2 => 0,
                3 => 10,
                4 => 20,
                _ => favourites[random.below(10) as usize],
            };
            if kind < 10 && random.below(4) != 0 {
                return (kind, random.number() & 0xff | commands[random.below(5) as usize] << 8);
            }
            random.event(kind, of)
        };
        (0..length).map(|_| event(self)).collect()
    }
}
