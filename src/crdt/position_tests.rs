//! Positions under random histories of several authors: unique, ordered as their bytes are, with room between any two, and runs that stay in one piece.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// One author and the positions that it knows, in order.
#[derive(Clone)]
struct Author {
    actor: Actor,
    counter: u64,
    known: Vec<Position>,
}

impl Author {
    fn new(actor: u64) -> Self {
        Self { actor: Actor(actor), counter: 0, known: Vec::new() }
    }

    /// Makes a position behind so many of those that it knows.
    fn insert(&mut self, index: usize, growth: Growth) -> Position {
        self.counter += 1;
        let dot = Dot { actor: self.actor, counter: self.counter };
        let (before, after) = (index.checked_sub(1).map(|before| &self.known[before]), self.known.get(index));
        let made = Position::between(before, after, growth, dot).unwrap();
        assert!(before.is_none_or(|before| *before < made) && after.is_none_or(|after| made < *after));
        self.known.insert(index, made.clone());
        made
    }

    fn push(&mut self, growth: Growth) -> Position {
        self.insert(if growth == Growth::Up { self.known.len() } else { 0 }, growth)
    }

    fn learn(&mut self, positions: &[Position]) {
        let all: BTreeSet<Position> = self.known.iter().chain(positions).cloned().collect();
        self.known = all.into_iter().collect();
    }
}

fn growth() -> impl Strategy<Value = Growth> {
    prop_oneof![Just(Growth::Up), Just(Growth::Down)]
}

/// Whether items of one side stand in one piece among all, in order.
fn in_one_piece(all: &[Position], side: &[Position]) -> bool {
    let sorted: BTreeSet<&Position> = side.iter().collect();
    let sorted: Vec<&Position> = sorted.into_iter().collect();
    sorted.is_empty() || all.iter().collect::<Vec<_>>().windows(sorted.len()).any(|window| *window == sorted[..])
}

proptest! {
    #[test]
    fn positions_are_unique_ordered_as_their_bytes_and_have_room_between_them(
        steps in proptest::collection::vec((0..4usize, 0..10u8, any::<u16>(), growth()), 1..160),
    ) {
        let mut authors: Vec<Author> = (1..=4).map(Author::new).collect();
        let mut made = BTreeSet::new();
        for (who, what, choice, growth) in steps {
            let known = authors[who].known.len();
            let position = match what {
                0..=3 => authors[who].push(growth),
                4..=6 => authors[who].insert(usize::from(choice) % (known + 1), growth),
                7 if known > 0 => {
                    authors[who].known.remove(usize::from(choice) % known);
                    continue;
                }
                8 => {
                    // After a crash that lost what it had pushed last, the author's dots go on.
                    authors[who].known.truncate(usize::from(choice) % (known + 1));
                    continue;
                }
                _ => {
                    let theirs = authors[usize::from(choice) % 4].known.clone();
                    authors[who].learn(&theirs);
                    continue;
                }
            };
            prop_assert_eq!(Position::from_bytes(&position.to_bytes()), Ok(position.clone()));
            prop_assert!(made.insert(position.to_bytes()), "made twice: {:?}", position);
        }
        let positions: Vec<Position> = made.iter().map(|bytes| Position::from_bytes(bytes).unwrap()).collect();
        prop_assert!(positions.is_sorted(), "the order of bytes is another one");
        let mut late = Author::new(9);
        for pair in positions.windows(2) {
            for growth in [Growth::Up, Growth::Down] {
                late.known = pair.to_vec();
                late.insert(1, growth);
            }
        }
    }

    #[test]
    fn what_two_sides_of_a_partition_push_does_not_interleave(
        shared in proptest::collection::vec((0..3usize, growth()), 0..12),
        runs in proptest::collection::vec((0..2usize, 0..2usize, 1..5usize), 1..10),
        growth in growth(),
    ) {
        // Two authors on each side; one of the others has written before.
        let mut sides = [[Author::new(3), Author::new(1)], [Author::new(2), Author::new(4)]];
        let mut base = Author::new(5);
        for (who, growth) in shared {
            let pushed = if who == 0 { base.push(growth) } else {
                sides[who - 1][0].learn(&base.known);
                sides[who - 1][0].push(growth)
            };
            base.learn(&[pushed]);
        }
        sides.iter_mut().flatten().for_each(|author| author.known = base.known.clone());
        let mut pushed: [Vec<Position>; 2] = Default::default();
        let mut changes = [0; 2];
        let mut last = [9; 2];
        for (side, author, length) in runs {
            changes[side] += usize::from(last[side] != author);
            last[side] = author;
            for _ in 0..length {
                let made = sides[side][author].push(growth);
                sides[side][1 - author].learn(std::slice::from_ref(&made));
                pushed[side].push(made);
            }
        }
        let deepest = base.known.iter().map(|position| position.steps.len()).max().unwrap_or(0);
        prop_assume!(deepest + changes[0].max(changes[1]) <= NESTED_STEPS);
        base.learn(&pushed[0]);
        base.learn(&pushed[1]);
        for side in &pushed {
            prop_assert!(in_one_piece(&base.known, side), "interleaved: {:?}", base.known);
            let in_order = side.windows(2).all(|pair| if growth == Growth::Up { pair[0] < pair[1] } else { pair[0] > pair[1] });
            prop_assert!(in_order);
        }
    }

    #[test]
    fn runs_of_single_authors_stay_in_one_piece_however_deep_the_list_is(alternations in 0..40usize, lengths in (1..30usize, 1..30usize), growth in growth()) {
        let (mut a, mut b) = (Author::new(1), Author::new(2));
        for _ in 0..alternations {
            let pushed = a.push(growth);
            b.learn(&[pushed]);
            let pushed = b.push(growth);
            a.learn(&[pushed]);
        }
        let runs = [(0..lengths.0).map(|_| a.push(growth)).collect::<Vec<_>>(), (0..lengths.1).map(|_| b.push(growth)).collect()];
        a.learn(&runs[1]);
        prop_assert!(runs.iter().all(|run| in_one_piece(&a.known, run)));
    }

    #[test]
    fn whatever_is_read_is_written_the_same(
        bytes in proptest::collection::vec(prop_oneof![Just(0x80u8), Just(0x81), Just(0x7f), Just(0), Just(1), Just(0xff), any::<u8>()], 0..40),
    ) {
        if let Ok(position) = Position::from_bytes(&bytes) {
            prop_assert_eq!(&position.to_bytes()[..], &bytes[..]);
        }
    }
}

#[test]
fn thousands_of_inserts_at_one_spot_by_turns_find_room_and_stay_short() {
    for growth in [Growth::Up, Growth::Down] {
        let mut authors = [Author::new(1), Author::new(2)];
        for index in [0, 1] {
            let pushed = authors[0].insert(index, Growth::Up);
            authors[1].learn(&[pushed]);
        }
        let mut longest = 0;
        for turn in 0..4000 {
            let (author, other) = (turn % 2, 1 - turn % 2);
            let index = if growth == Growth::Up { authors[author].known.len() - 1 } else { 1 };
            let made = authors[author].insert(index, growth);
            longest = longest.max(made.to_bytes().len());
            // Only the neighbours matter, so the rest may go.
            let known = &mut authors[author].known;
            if growth == Growth::Up {
                drop(known.drain(..known.len() - 2))
            } else {
                known.truncate(2)
            }
            authors[other].known = authors[author].known.clone();
        }
        assert!(longest < MAX_POSITION / 3, "{longest} bytes");
    }
}

#[test]
fn a_queue_that_never_empties_keeps_its_positions_short() {
    let mut authors = [Author::new(1), Author::new(2), Author::new(3)];
    let mut longest = 0;
    for turn in 0..3000 {
        let made = authors[turn % 3].push(Growth::Up);
        longest = longest.max(made.to_bytes().len());
        authors.iter_mut().for_each(|author| author.known = vec![made.clone()]);
    }
    assert!(longest < 250, "{longest} bytes");
}

#[test]
fn what_was_pushed_unseen_stands_beyond_the_rest_in_order_of_time() {
    let dot = |counter| Dot { actor: Actor(7), counter };
    let mut seen = Author::new(1);
    let (first, last) = (seen.push(Growth::Down), seen.push(Growth::Up));
    let at = |millis, counter, growth| Position::unseen(growth, Timestamp::from_millis(millis), dot(counter));
    assert!(last < at(5, 1, Growth::Up) && at(5, 1, Growth::Up) < at(6, 2, Growth::Up));
    assert!(first > at(5, 1, Growth::Down) && at(5, 1, Growth::Down) > at(6, 2, Growth::Down));
    seen.learn(&[at(6, 2, Growth::Up)]);
    assert!(seen.push(Growth::Up) > at(6, 2, Growth::Up));
    assert!(Position::unseen(Growth::Up, Timestamp(u64::MAX), dot(1)) > last);
}

#[test]
fn damaged_positions_are_refused() {
    let mut author = Author::new(1);
    author.push(Growth::Up);
    let bytes = author.push(Growth::Down).to_bytes();
    for length in 0..bytes.len() {
        assert!(Position::from_bytes(&bytes[..length]).is_err(), "cut at {length}");
    }
    assert_eq!(Position::from_bytes(&[&bytes[..], b"x"].concat()), Err(DecodeError::Trailing(1)));
    assert!(Position::from_bytes(&[ZERO]).is_err());
    // A number with a needless zero, a counter of 0, a number below all.
    assert!(Position::from_bytes(&[&[0x82, 0, 1][..], &[0; 8], &[0x81, 1, ZERO, ZERO]].concat()).is_err());
    assert!(Position::from_bytes(&[&[0x81, 1][..], &[0; 8], &[ZERO, ZERO, ZERO]].concat()).is_err());
    assert!(Position::from_bytes(&[&[0x78, 0][..], &[0; 16], &[0x81, 1, ZERO, ZERO]].concat()).is_err());
    let step = [&[0x81, 1][..], &[0; 8], &[0x81, 1, ZERO]].concat();
    assert_eq!(Position::from_bytes(&[&step[..], &[ZERO]].concat()).map(|position| position.steps.len()), Ok(1));
    assert!(matches!(Position::from_bytes(&[&step.repeat(80)[..], &[ZERO]].concat()), Err(DecodeError::Limit { .. })));
}
