//! Random histories from a seed: the same on every machine and in every run.

use super::commands::{COMMANDS, TYPES};
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

    /// A history of commands of any type: one in three of anything, the others dwell on a few kinds of events and commands, so that these meet often.
    pub(crate) fn history(&mut self) -> Vec<Event> {
        let commands = (0..5).map(|_| {
            let (_, commands) = self.one_of(&TYPES);
            *self.one_of(commands)
        });
        let commands = commands.collect();
        self.history_around(commands)
    }

    /// As [`Self::history`], and the commands that it dwells on are all of one type, told by its place among [`TYPES`].
    pub(crate) fn history_of(&mut self, data_type: usize) -> Vec<Event> {
        let commands = (0..5).map(|_| *self.one_of(TYPES[data_type].1)).collect();
        self.history_around(commands)
    }

    fn history_around(&mut self, commands: Vec<u32>) -> Vec<Event> {
        let length = 10 + self.below(90);
        if self.below(3) == 0 {
            return (0..length).map(|_| (self.below(EVENTS.into()) as u8, self.number())).collect();
        }
        let favourites: Vec<u8> = (0..10).map(|_| self.below(EVENTS.into()) as u8).collect();
        let event = |random: &mut Self| {
            let kind = match random.below(8) {
                0 => random.below(EVENTS.into()) as u8,
                1 | 2 => 0,
                3 => 10,
                4 => 20,
                _ => favourites[random.below(10) as usize],
            };
            let mut number = random.number();
            if kind < 10 && number >> 30 != 0 {
                // What is above the kind of command tells of which element.
                number = number & 0xff | (random.one_of(&commands) + COMMANDS * (number >> 16)) << 8;
            }
            (kind, number)
        };
        (0..length).map(|_| event(self)).collect()
    }

    fn one_of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }
}
