//! Places on the earth as 52-bit cell numbers, as Redis keeps them in the scores of sorted sets; distances; and the cells that
//! cover an area.
//!
//! Longitude and latitude are each divided into 2^26 steps, whose bits alternate, latitude in the lowest: the numbers of
//! neighbouring places are mostly close, and a cell of a coarser grid is a range of numbers. Latitude ends at the square world of the
//! Mercator projection. Distances are great circles on a sphere (haversine).
//!
//! Pure functions. Source of the numbers: Redis's `geohash.c` and `geohash_helper.c`. Absent on purpose: sorted sets.

use std::f64::consts::PI;

/// The largest longitude, degrees; the smallest is its opposite.
pub const LONGITUDE_MAX: f64 = 180.0;
/// The largest latitude, degrees; the smallest is its opposite.
pub const LATITUDE_MAX: f64 = 85.051_128_78;
/// Radius of the sphere, metres.
const EARTH_RADIUS: f64 = 6_372_797.560_856;
/// Half the width of the projected world, metres.
const MERCATOR_MAX: f64 = 20_037_726.37;
/// Bits of each coordinate in a score.
const STEPS: u32 = 26;

/// A place: longitude and latitude in degrees.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Place {
    /// East is positive.
    pub longitude: f64,
    /// North is positive.
    pub latitude: f64,
}

/// One cell of the grid with 2^`steps` cells in each direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cell {
    x: u64,
    y: u64,
    steps: u32,
}

/// The borders of a cell, degrees.
struct Borders {
    west: f64,
    east: f64,
    south: f64,
    north: f64,
}

fn spread(number: u64) -> u64 {
    (0..32).fold(0, |bits, at| bits | (number >> at & 1) << (2 * at))
}

fn gather(bits: u64) -> u64 {
    (0..32).fold(0, |number, at| number | (bits >> (2 * at) & 1) << at)
}

impl Cell {
    fn of(place: Place, steps: u32) -> Cell {
        Cell::within(place, steps, LATITUDE_MAX)
    }

    fn within(place: Place, steps: u32, latitude_max: f64) -> Cell {
        let part = |value: f64, max: f64| ((value + max) / (max + max) * (1u64 << steps) as f64) as u64;
        let mask = (1u64 << steps) - 1;
        // The very border of the world belongs to the last cell's neighbour, which is the first: as 32-bit arithmetic has it.
        let (x, y) = (part(place.longitude, LONGITUDE_MAX), part(place.latitude, latitude_max));
        Cell { x: x & (mask << 1 | 1), y: y & (mask << 1 | 1), steps }
    }

    fn bits(self) -> u64 {
        spread(self.x) << 1 | spread(self.y)
    }

    fn borders(self) -> Borders {
        let cells = (1u64 << self.steps) as f64;
        let at = |index: u64, max: f64| -max + index as f64 / cells * (max + max);
        Borders {
            west: at(self.x, LONGITUDE_MAX),
            east: at(self.x + 1, LONGITUDE_MAX),
            south: at(self.y, LATITUDE_MAX),
            north: at(self.y + 1, LATITUDE_MAX),
        }
    }

    /// The cell so many to the east and to the north; the grid goes round.
    fn moved(self, east: i64, north: i64) -> Cell {
        let mask = (1u64 << self.steps) - 1;
        let step = |index: u64, by: i64| index.wrapping_add_signed(by) & mask;
        Cell { x: step(self.x, east), y: step(self.y, north), steps: self.steps }
    }

    /// The scores of the places in it: from the first on, below the second.
    fn scores(self) -> (f64, f64) {
        let shift = 2 * (STEPS - self.steps);
        ((self.bits() << shift) as f64, ((self.bits() + 1) << shift) as f64)
    }
}

impl Place {
    /// The place, if it is one: within the borders of the projected world.
    pub fn new(longitude: f64, latitude: f64) -> Option<Place> {
        (longitude.abs() <= LONGITUDE_MAX && latitude.abs() <= LATITUDE_MAX).then_some(Place { longitude, latitude })
    }

    /// As the score of a sorted set.
    pub fn score(self) -> f64 {
        Cell::of(self, STEPS).bits() as f64
    }

    /// The middle of the cell that a score names. A score that is none of a place names one all the same, that of Redis.
    pub fn from_score(score: f64) -> Place {
        let bits = cell_bits(score);
        let borders = Cell { x: gather(bits >> 1), y: gather(bits), steps: STEPS }.borders();
        Place {
            longitude: f64::midpoint(borders.west, borders.east).clamp(-LONGITUDE_MAX, LONGITUDE_MAX),
            latitude: f64::midpoint(borders.south, borders.north).clamp(-LATITUDE_MAX, LATITUDE_MAX),
        }
    }

    /// As a geohash of 11 letters, whose world reaches to the poles.
    pub fn geohash(self) -> [u8; 11] {
        const LETTERS: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
        let bits = Cell::within(self, STEPS, 90.0).bits();
        // 52 bits are ten letters; the eleventh is always the first of the alphabet.
        std::array::from_fn(
            |at| if at == 10 { LETTERS[0] } else { LETTERS[(bits >> (52 - 5 * (at + 1)) & 31) as usize] },
        )
    }

    /// The distance to another place, metres.
    pub fn distance(self, other: Place) -> f64 {
        let (lon1, lon2) = (self.longitude.to_radians_exact(), other.longitude.to_radians_exact());
        let v = ((lon2 - lon1) / 2.0).sin();
        if v == 0.0 {
            return latitude_distance(self.latitude, other.latitude);
        }
        let (lat1, lat2) = (self.latitude.to_radians_exact(), other.latitude.to_radians_exact());
        let u = ((lat2 - lat1) / 2.0).sin();
        let a = u * u + lat1.cos() * lat2.cos() * v * v;
        2.0 * EARTH_RADIUS * a.sqrt().asin()
    }
}

/// A score as an integer, the way x86-64 turns a double into an unsigned one, whatever the double is.
fn cell_bits(score: f64) -> u64 {
    const HALF: f64 = 9_223_372_036_854_775_808.0;
    const TOP: u64 = 1 << 63;
    // Out of range for a signed integer is the lowest of them.
    let signed = |number: f64| if (-HALF..HALF).contains(&number) { number as i64 as u64 } else { TOP };
    if score < HALF { signed(score) } else { signed(score - HALF) ^ TOP }
}

fn latitude_distance(a: f64, b: f64) -> f64 {
    EARTH_RADIUS * (b.to_radians_exact() - a.to_radians_exact()).abs()
}

/// Degrees to radians by the very product that Redis forms, so that distances agree to the last digit.
trait ToRadiansExact {
    fn to_radians_exact(self) -> f64;
}

impl ToRadiansExact for f64 {
    fn to_radians_exact(self) -> f64 {
        self * (PI / 180.0)
    }
}

/// An area around a place. Lengths in metres.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Area {
    /// All within this distance.
    Circle(f64),
    /// A rectangle of this width and height, along the parallels and meridians.
    Box(f64, f64),
}

impl Area {
    /// The distance of a place from the centre, if it lies in the area.
    pub fn distance_within(self, centre: Place, place: Place) -> Option<f64> {
        match self {
            Area::Circle(radius) => Some(centre.distance(place)).filter(|distance| *distance <= radius),
            Area::Box(width, height) => {
                let beside = Place { longitude: centre.longitude, latitude: place.latitude };
                let inside = latitude_distance(place.latitude, centre.latitude) <= height / 2.0
                    && place.distance(beside) <= width / 2.0;
                inside.then(|| centre.distance(place))
            }
        }
    }

    /// Ranges of scores, each from the first on and below the second, that together hold every place of the area; in the order in
    /// which Redis looks at them.
    pub fn score_ranges(self, centre: Place) -> Vec<(f64, f64)> {
        let (radius, half_width, half_height) = match self {
            Area::Circle(radius) => (radius, radius, radius),
            Area::Box(width, height) => ((width / 2.0).hypot(height / 2.0), width / 2.0, height / 2.0),
        };
        let Place { longitude, latitude } = centre;
        let degrees = |radians: f64| radians / (PI / 180.0);
        let tall = degrees(half_height / EARTH_RADIUS);
        let wide_at = |latitude: f64| degrees(half_width / EARTH_RADIUS / latitude.to_radians_exact().cos());
        // Degrees of longitude are shortest towards the pole.
        let wide = if latitude < 0.0 { wide_at(latitude - tall) } else { wide_at(latitude + tall) };

        let mut steps = steps_for(radius, latitude);
        let mut cell = Cell::of(centre, steps);
        let far = |longitude, latitude| centre.distance(Place { longitude, latitude });
        let short = far(longitude, cell.moved(0, 1).borders().north) < radius
            || far(longitude, cell.moved(0, -1).borders().south) < radius
            || far(cell.moved(1, 0).borders().east, latitude) < radius
            || far(cell.moved(-1, 0).borders().west, latitude) < radius;
        if steps > 1 && short {
            steps -= 1;
            cell = Cell::of(centre, steps);
        }
        let borders = cell.borders();
        let (mut south, mut north, mut west, mut east) = (true, true, true, true);
        if steps >= 2 {
            south = borders.south >= latitude - tall;
            north = borders.north <= latitude + tall;
            west = borders.west >= longitude - wide;
            east = borders.east <= longitude + wide;
        }
        let around = [
            (0, 0, true),
            (0, 1, north),
            (0, -1, south),
            (1, 0, east),
            (-1, 0, west),
            (1, 1, north && east),
            (-1, 1, north && west),
            (1, -1, south && east),
            (-1, -1, south && west),
        ];
        let mut cells: Vec<Cell> = Vec::with_capacity(9);
        for (by_east, by_north, wanted) in around {
            let neighbour = cell.moved(by_east, by_north);
            // In a coarse grid the neighbours on both sides are the same.
            if wanted && !cells.contains(&neighbour) {
                cells.push(neighbour);
            }
        }
        cells.into_iter().map(Cell::scores).collect()
    }
}

/// How fine a grid may be so that nine of its cells cover a circle of this radius.
fn steps_for(radius: f64, latitude: f64) -> u32 {
    if radius == 0.0 {
        return STEPS;
    }
    let mut steps = 1i32;
    let mut reach = radius;
    while reach < MERCATOR_MAX {
        reach *= 2.0;
        steps += 1;
    }
    steps -= 2;
    // Towards the poles cells are narrower on the ground.
    if latitude.abs() > 66.0 {
        steps -= 1;
        if latitude.abs() > 80.0 {
            steps -= 1;
        }
    }
    steps.clamp(1, STEPS as i32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    const PALERMO: Place = Place { longitude: 13.361389, latitude: 38.115556 };
    const CATANIA: Place = Place { longitude: 15.087269, latitude: 37.502669 };

    #[test]
    fn scores_and_letters_are_those_of_redis() {
        assert_eq!(PALERMO.score(), 3_479_099_956_230_698.0);
        assert_eq!(CATANIA.score(), 3_479_447_370_796_909.0);
        assert_eq!(Place::from_score(PALERMO.score()).geohash(), *b"sqc8b49rny0");
        let distance = Place::from_score(PALERMO.score()).distance(Place::from_score(CATANIA.score()));
        assert_eq!(format!("{distance:.4}"), "166274.1516");
    }

    #[test]
    fn any_score_names_a_place() {
        assert_eq!(Place::from_score(-1.0).geohash(), *b"bp05b5048p0");
        for score in [f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300, 9.3e18, -5e17] {
            let place = Place::from_score(score);
            assert!(Place::new(place.longitude, place.latitude).is_some());
        }
    }

    #[test]
    fn every_place_of_an_area_is_in_its_ranges() {
        let seed = 17;
        println!("seed {seed}");
        let mut rng = Rng::seed(seed);
        let mut within = 0;
        for _ in 0..4000 {
            let mut place = |spread: f64, near: Place| {
                let by = |rng: &mut Rng| (rng.unit_f64() - 0.5) * spread;
                let longitude = (near.longitude + by(&mut rng)).clamp(-180.0, 180.0);
                Place::new(longitude, (near.latitude + by(&mut rng)).clamp(-85.0, 85.0)).unwrap()
            };
            let centre = place(340.0, Place { longitude: 0.0, latitude: 0.0 });
            let centre = Place { latitude: centre.latitude * 0.95, ..centre };
            let other = Place::from_score(place(3.0, centre).score());
            let length = 10f64.powf(1.0 + 5.0 * rng.unit_f64());
            for area in [Area::Circle(length), Area::Box(length, length * 0.7)] {
                if area.distance_within(centre, other).is_some() {
                    within += 1;
                    let score = other.score();
                    let ranges = area.score_ranges(centre);
                    assert!(
                        ranges.iter().any(|(from, to)| (*from..*to).contains(&score)),
                        "{other:?} is in {area:?} around {centre:?}"
                    );
                }
            }
        }
        assert!(within > 500, "{within}");
    }
}
