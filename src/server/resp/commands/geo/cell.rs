//! Geohashes of 52 bits: where a score stands for a cell on the map.
//!
//! The map is halved again and again, by longitude and latitude in turn, and each half taken is a bit. So near places mostly share their first bits,
//! and all places of a cell lie between two scores. The ends of the map, 85.05112878° north and south, are those of the Mercator projection.
//!
//! ```text
//! bit    51 50 49 48 …  1  0
//! of     lon lat lon lat  lon lat
//! ```
//!
//! Every operation on doubles is in the order in which Redis does it, so that scores and coordinates are the same to the last bit.
//!
//! Source: Morton codes (1966), as in `geohash.org` (Niemeyer, 2008).

/// Halvings of each axis.
pub(super) const STEPS: u32 = 26;
/// The ends of the map, in degrees.
pub(super) const LONGITUDES: (f64, f64) = (-180.0, 180.0);
/// See [`LONGITUDES`].
pub(super) const LATITUDES: (f64, f64) = (-85.051_128_78, 85.051_128_78);
/// The ends in latitude of geohashes as everybody else writes them.
const WHOLE_LATITUDES: (f64, f64) = (-90.0, 90.0);
/// The letters of such geohashes, five bits each.
const LETTERS: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
/// The bits of latitude.
const EVEN: u64 = 0x5555_5555_5555_5555;
/// The bits of longitude.
const ODD: u64 = !EVEN;

/// A place, in degrees.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Place {
    pub(super) longitude: f64,
    pub(super) latitude: f64,
}

/// A cell of the map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cell {
    pub(super) bits: u64,
    /// Halvings of each axis.
    pub(super) steps: u32,
}

/// What a cell covers: least and greatest longitude, then latitude.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Area {
    pub(super) longitudes: (f64, f64),
    pub(super) latitudes: (f64, f64),
}

/// Puts the bits of a number at the even places.
fn spread(number: u32) -> u64 {
    let masks =
        [(16, 0x0000_ffff_0000_ffff), (8, 0x00ff_00ff_00ff_00ff), (4, 0x0f0f_0f0f_0f0f_0f0f), (2, 0x3333_3333_3333_3333), (1, EVEN)];
    masks.into_iter().fold(u64::from(number), |spread, (shift, mask)| (spread | spread << shift) & mask)
}

/// The number whose bits stand at the even places.
fn gathered(bits: u64) -> u32 {
    let masks =
        [(1, 0x3333_3333_3333_3333), (2, 0x0f0f_0f0f_0f0f_0f0f), (4, 0x00ff_00ff_00ff_00ff), (8, 0x0000_ffff_0000_ffff), (16, 0xffff_ffff)];
    let gathered = masks.into_iter().fold(bits & EVEN, |bits, (shift, mask)| (bits | bits >> shift) & mask);
    u32::try_from(gathered).unwrap_or(u32::MAX)
}

/// How many parts of an axis lie before a coordinate, where it has `2^steps` of them.
fn part(coordinate: f64, (least, greatest): (f64, f64), steps: u32) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number from 0 to 2^26, of which the fraction is cut off"
    )]
    let part = ((coordinate - least) / (greatest - least) * f64::from(1u32 << steps)) as u32;
    part
}

impl Place {
    /// Whether it lies on the map.
    pub(super) fn is_on_map(self) -> bool {
        (LONGITUDES.0..=LONGITUDES.1).contains(&self.longitude) && (LATITUDES.0..=LATITUDES.1).contains(&self.latitude)
    }

    /// The cell that it lies in.
    pub(super) fn cell(self, steps: u32) -> Cell {
        self.cell_of(LATITUDES, steps)
    }

    fn cell_of(self, latitudes: (f64, f64), steps: u32) -> Cell {
        let bits = spread(part(self.latitude, latitudes, steps)) | spread(part(self.longitude, LONGITUDES, steps)) << 1;
        Cell { bits, steps }
    }

    /// The place that a score stands for: the middle of its cell.
    pub(super) fn of_score(score: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "scores of places are whole numbers of 52 bits")]
        let Area { longitudes, latitudes } = Cell { bits: score as u64, steps: STEPS }.area();
        let middle = |(least, greatest): (f64, f64), ends: (f64, f64)| ((least + greatest) / 2.0).min(ends.1).max(ends.0);
        Self { longitude: middle(longitudes, LONGITUDES), latitude: middle(latitudes, LATITUDES) }
    }

    /// Its geohash in letters. The eleventh stands for bits that nobody has.
    pub(super) fn letters(self) -> String {
        let bits = self.cell_of(WHOLE_LATITUDES, STEPS).bits;
        let letter = |place: u32| char::from(LETTERS[usize::try_from(bits >> (52 - 5 * place) & 31).unwrap_or(0)]);
        (1..=10).map(letter).chain(['0']).collect()
    }
}

impl Cell {
    /// What it covers.
    pub(super) fn area(self) -> Area {
        let parts = (1u64 << self.steps) as f64;
        let covers = |part: u32, (least, greatest): (f64, f64)| {
            let end = |part: u32| least + f64::from(part) / parts * (greatest - least);
            (end(part), end(part.wrapping_add(1)))
        };
        Area { longitudes: covers(gathered(self.bits >> 1), LONGITUDES), latitudes: covers(gathered(self.bits), LATITUDES) }
    }

    /// The cell so many cells to the east and north, around the map.
    pub(super) fn beside(self, east: i32, north: i32) -> Self {
        let unused = 64 - self.steps * 2;
        let moved = |own: u64, other: u64, by: i32| {
            // The bits of the other axis are filled so that a carry passes through them, or emptied again by a borrow.
            let one = (other >> unused) + 1;
            let moved = match by {
                // Not even what lies at the very end of the map loses its topmost bit.
                0 => return self.bits & own,
                1.. => (self.bits & own).wrapping_add(one),
                _ => ((self.bits & own) | other >> unused).wrapping_sub(one),
            };
            moved & own >> unused
        };
        Self { bits: moved(ODD, EVEN, east) | moved(EVEN, ODD, north), steps: self.steps }
    }

    /// The scores of the places in it: the least, and the first beyond.
    pub(super) fn scores(self) -> (f64, f64) {
        let aligned = |bits: u64| (bits << (2 * (STEPS - self.steps))) as f64;
        (aligned(self.bits), aligned(self.bits + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PALERMO: Place = Place { longitude: 13.361389, latitude: 38.115556 };

    #[test]
    fn a_place_becomes_the_score_that_redis_gives_it_and_comes_back() {
        let (score, beyond) = PALERMO.cell(STEPS).scores();
        assert_eq!((score, beyond), (3_479_099_956_230_698.0, 3_479_099_956_230_699.0));
        let back = Place::of_score(score);
        assert_eq!(format!("{:.17} {:.17}", back.longitude, back.latitude), "13.36138933897018433 38.11555639549629859");
        assert_eq!(back.letters(), "sqc8b49rny0");
    }

    #[test]
    fn bits_are_spread_and_gathered() {
        for number in [0, 1, 2, 0x1234_5678, u32::MAX] {
            assert_eq!(gathered(spread(number)), number);
            assert_eq!(gathered(spread(number) << 1 | spread(7)), 7);
        }
    }

    #[test]
    fn neighbours_meet_at_their_edges_and_around_the_map() {
        let cell = PALERMO.cell(10);
        assert_eq!(cell.beside(1, 0).area().longitudes.0, cell.area().longitudes.1);
        assert_eq!(cell.beside(0, -1).area().latitudes.1, cell.area().latitudes.0);
        assert_eq!(cell.beside(1, 1).beside(-1, -1), cell);
        let east = Place { longitude: 179.9, latitude: 0.1 }.cell(5);
        assert_eq!(east.beside(1, 0).area().longitudes.0, -180.0);
    }
}
