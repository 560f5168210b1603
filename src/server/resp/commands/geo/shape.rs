//! What GEOSEARCH looks for: everything within a circle or a rectangle, and the cells of the map that cover it.
//!
//! Distances are those of great circles (the haversine formula) on a sphere of the earth's quadratic mean radius, as in Redis.

use super::cell::{Cell, Place, STEPS};

/// The earth's radius, in metres.
const EARTH_RADIUS: f64 = 6_372_797.560_856;
/// Half the width of the Mercator map, in metres.
const MERCATOR_MAX: f64 = 20_037_726.37;
/// A degree, in radians.
const DEGREE: f64 = std::f64::consts::PI / 180.0;

/// How far apart two places are, in metres.
pub(super) fn distance(one: Place, other: Place) -> f64 {
    let (latitude, other_latitude) = (one.latitude * DEGREE, other.latitude * DEGREE);
    let half_sine = |one: f64, other: f64| ((other - one) / 2.0).sin();
    let (u, v) = (half_sine(latitude, other_latitude), half_sine(one.longitude * DEGREE, other.longitude * DEGREE));
    2.0 * EARTH_RADIUS * (u * u + latitude.cos() * other_latitude.cos() * v * v).sqrt().asin()
}

/// How large the area is, in the unit of the command.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Extent {
    /// A circle of this radius.
    Radius(f64),
    /// A rectangle of this width and height.
    Box(f64, f64),
}

/// The area that is searched.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Shape {
    pub(super) centre: Place,
    pub(super) extent: Extent,
    /// The unit of the command, in metres.
    pub(super) unit: f64,
}

impl Shape {
    /// How far a place is from the centre, in metres; `None` where it lies outside.
    pub(super) fn distance_within(&self, place: Place) -> Option<f64> {
        match self.extent {
            Extent::Radius(radius) => Some(distance(self.centre, place)).filter(|distance| *distance <= radius * self.unit),
            Extent::Box(width, height) => {
                let across = distance(place, Place { longitude: self.centre.longitude, ..place });
                let along = distance(place, Place { latitude: self.centre.latitude, ..place });
                let is_within = across <= width * self.unit / 2.0 && along <= height * self.unit / 2.0;
                is_within.then(|| distance(self.centre, place))
            }
        }
    }

    /// Least and greatest longitude, then latitude, between which it lies.
    fn bounds(&self) -> ((f64, f64), (f64, f64)) {
        let (width, height) = match self.extent {
            Extent::Radius(radius) => (self.unit * radius, self.unit * radius),
            Extent::Box(width, height) => (self.unit * (width / 2.0), self.unit * (height / 2.0)),
        };
        let Place { longitude, latitude } = self.centre;
        let up = height / EARTH_RADIUS / DEGREE;
        // Away from the equator a degree of longitude is shorter.
        let edge = if latitude < 0.0 { latitude - up } else { latitude + up };
        let across = width / EARTH_RADIUS / (edge * DEGREE).cos() / DEGREE;
        ((longitude - across, longitude + across), (latitude - up, latitude + up))
    }

    /// How often the map is halved until a cell is about as large as the area.
    fn steps(&self) -> u32 {
        let mut reach = self.unit
            * match self.extent {
                Extent::Radius(radius) => radius,
                Extent::Box(width, height) => ((width / 2.0) * (width / 2.0) + (height / 2.0) * (height / 2.0)).sqrt(),
            };
        if reach == 0.0 {
            return STEPS;
        }
        let mut steps = -1;
        while reach < MERCATOR_MAX {
            reach *= 2.0;
            steps += 1;
        }
        let latitude = self.centre.latitude.abs();
        steps -= i32::from(latitude > 66.0) + i32::from(latitude > 80.0);
        u32::try_from(steps.clamp(1, 26)).unwrap_or(1)
    }

    /// The cells that cover the area, in the order in which Redis looks at them: the middle, then those around it that are needed.
    pub(super) fn cells(&self) -> Vec<Cell> {
        let ((west, east), (south, north)) = self.bounds();
        let mut middle = self.centre.cell(self.steps());
        let area = |east: i32, north: i32| middle.beside(east, north).area();
        let is_too_fine = area(0, 1).latitudes.1 < north
            || area(0, -1).latitudes.0 > south
            || area(1, 0).longitudes.1 < east
            || area(-1, 0).longitudes.0 > west;
        if middle.steps > 1 && is_too_fine {
            middle = self.centre.cell(middle.steps - 1);
        }
        let area = middle.area();
        let is_needed = |(x, y): &(i32, i32)| {
            let beyond = *x < 0 && area.longitudes.0 < west
                || *x > 0 && area.longitudes.1 > east
                || *y < 0 && area.latitudes.0 < south
                || *y > 0 && area.latitudes.1 > north;
            middle.steps < 2 || !beyond
        };
        let around = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];
        let mut cells: Vec<Cell> = Vec::new();
        for (x, y) in around.into_iter().filter(is_needed) {
            let cell = middle.beside(x, y);
            // Of a coarse map neighbours may be the same. Redis looks only whether one is the same as that before, the middle left out.
            if cells.len() < 2 || cells.last() != Some(&cell) {
                cells.push(cell);
            }
        }
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PALERMO: Place = Place { longitude: 13.361_389_338_970_184, latitude: 38.115_556_395_496_3 };
    const CATANIA: Place = Place { longitude: 15.087_267_458_438_873, latitude: 37.502_668_423_331_62 };

    #[test]
    fn distances_are_those_of_great_circles() {
        assert_eq!(format!("{:.4}", distance(PALERMO, CATANIA)), "166274.1516");
        assert_eq!(distance(PALERMO, PALERMO), 0.0);
    }

    #[test]
    fn whatever_lies_within_lies_in_one_of_the_cells() {
        for (longitude, latitude) in [(0.0, 0.0), (13.3, 38.1), (-179.9, 10.0), (100.0, -70.0), (7.0, 84.0)] {
            for radius in [0.0, 1.0, 100.0, 5_000.0, 300_000.0, 3_000_000.0] {
                let shape = Shape { centre: Place { longitude, latitude }, extent: Extent::Radius(radius), unit: 1.0 };
                let cells = shape.cells();
                for (east, north) in [(0.0, 0.0), (0.7, 0.7), (-0.9, 0.1), (0.1, -0.9)] {
                    let degrees = radius / 111_500.0;
                    let place = Place { longitude: longitude + east * degrees, latitude: latitude + north * degrees };
                    if !place.is_on_map() || shape.distance_within(place).is_none() {
                        continue;
                    }
                    let (score, _) = place.cell(STEPS).scores();
                    let covers = |cell: &Cell| cell.scores().0 <= score && score < cell.scores().1;
                    assert!(cells.iter().any(covers), "{place:?} within {radius} m of {:?}", shape.centre);
                }
            }
        }
    }

    #[test]
    fn a_rectangle_is_measured_along_its_sides() {
        let shape = |width, height| Shape { centre: PALERMO, extent: Extent::Box(width, height), unit: 1000.0 };
        assert!(shape(400.0, 400.0).distance_within(CATANIA).is_some());
        assert!(shape(400.0, 100.0).distance_within(CATANIA).is_none(), "it lies 68 km to the south");
        assert!(shape(200.0, 400.0).distance_within(CATANIA).is_none(), "it lies 152 km to the east");
    }
}
