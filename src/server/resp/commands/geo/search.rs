//! GEOSEARCH and its older relatives: what lies within a circle or rectangle around a place.
//!
//! Arguments are read only once the key is, since what they may be depends on it: a member whose place is asked for has to be there.

use std::cmp::Ordering;

use bytes::Bytes;

use super::super::action::{Action, CommandError, Operation};
use super::super::moving::store;
use super::super::options::{integer, is};
use super::super::spec::Parsed;
use super::cell::Place;
use super::shape::{Extent, Shape};
use super::{place, told_distance, told_place, unit};
use crate::crdt::command::Answer;
use crate::crdt::content::Content;
use crate::crdt::float::parse_double;
use crate::crdt::sorted_set::{Query, Range, Score};
use crate::server::resp::reply::Reply;

/// Members in order of (score, member).
type Members = [(Bytes, Score)];

/// How a command says what it searches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Style {
    /// Centre and area as options, and a target where it stores.
    Options { stores: bool },
    /// A longitude, a latitude and a radius; may store where it is an option.
    Coordinates { may_store: bool },
    /// A member and a radius; likewise.
    Member { may_store: bool },
}

pub(super) fn geosearch(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(search(arguments, 1, Style::Options { stores: false }))
}

pub(super) fn geosearchstore(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(search(arguments, 2, Style::Options { stores: true }))
}

pub(super) fn georadius(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(search(arguments, 1, Style::Coordinates { may_store: true }))
}

pub(super) fn georadius_ro(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(search(arguments, 1, Style::Coordinates { may_store: false }))
}

pub(super) fn georadiusbymember(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(search(arguments, 1, Style::Member { may_store: true }))
}

pub(super) fn georadiusbymember_ro(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(search(arguments, 1, Style::Member { may_store: false }))
}

/// Reads the key and goes on with what it holds.
fn search(arguments: &[Bytes], key: usize, style: Style) -> Action {
    let (read, arguments) = (Operation::read(&arguments[key], Query::Range(Range::all())), arguments.to_vec());
    Action::first(vec![read], move |answers| {
        let members = match answers.into_iter().next().unwrap_or(Ok(Answer::Nil))? {
            Answer::Scored(members) => members,
            _ => Vec::new(),
        };
        let wanted = Wanted::read(&arguments, style, &members)?;
        let found = wanted.find(&members);
        match wanted.target {
            Some(target) => store(&target, Content::SortedSet(found.iter().map(|found| wanted.options.stored(found)).collect())),
            None => Ok(Action::Reply(Reply::Array(found.iter().map(|found| wanted.options.told(found)).collect()))),
        }
    })
}

/// What is found: a member, where it lies, and how far from the centre, in the unit of the command.
struct Found {
    member: Bytes,
    score: Score,
    place: Place,
    distance: f64,
}

/// What a search asks for.
struct Wanted {
    /// What is searched; `None` where there is no key, and so nothing to find.
    shape: Option<Shape>,
    options: Options,
    /// Where the result is stored.
    target: Option<Bytes>,
}

/// What is told of what is found, and how much of it.
#[derive(Default)]
struct Options {
    with_distance: bool,
    with_hash: bool,
    with_place: bool,
    stores_distance: bool,
    order: Option<Order>,
    /// How many at most; 0 for all.
    count: usize,
    /// Whether any so many will do, not the nearest.
    any: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    NearestFirst,
    FarthestFirst,
}

fn number(argument: &[u8], what: &str) -> Result<f64, CommandError> {
    parse_double(argument).ok_or_else(|| CommandError::Other(format!("ERR need numeric {what}")))
}

/// A radius and its unit.
fn radius(radius: &[u8], unit_name: &[u8]) -> Result<(Extent, f64), CommandError> {
    let radius = number(radius, "radius")?;
    if radius < 0.0 {
        return Err(CommandError::other("ERR radius cannot be negative"));
    }
    Ok((Extent::Radius(radius), unit(unit_name)?))
}

/// Width and height of a rectangle and their unit.
fn rectangle(width: &[u8], height: &[u8], unit_name: &[u8]) -> Result<(Extent, f64), CommandError> {
    let (width, height) = (number(width, "width")?, number(height, "height")?);
    if width < 0.0 || height < 0.0 {
        return Err(CommandError::other("ERR height or width cannot be negative"));
    }
    Ok((Extent::Box(width, height), unit(unit_name)?))
}

/// The place of a member. Where there is no key nothing will be found, from wherever.
fn place_of(member: &Bytes, members: &Members) -> Result<Place, CommandError> {
    if members.is_empty() {
        return Ok(Place::of_score(0.0));
    }
    let found = members.iter().find(|(other, _)| other == member);
    found.map(|(_, score)| Place::of_score(score.value())).ok_or_else(|| CommandError::other("ERR could not decode requested zset member"))
}

impl Wanted {
    /// Reads the arguments of a search of these members.
    fn read(arguments: &[Bytes], style: Style, members: &Members) -> Result<Self, CommandError> {
        let mut reading = Reading::default();
        let (rest, may_store) = match style {
            Style::Options { stores } => {
                reading.target = stores.then(|| arguments[1].clone());
                (&arguments[if stores { 3 } else { 2 }..], false)
            }
            Style::Coordinates { may_store } => {
                reading.centre = Some(place(&arguments[2], &arguments[3])?);
                reading.area = Some(radius(&arguments[4], &arguments[5])?);
                (&arguments[6..], may_store)
            }
            Style::Member { may_store } => {
                // Without a key Redis does not look at them.
                if !members.is_empty() {
                    reading.centre = Some(place_of(&arguments[2], members)?);
                    reading.area = Some(radius(&arguments[3], &arguments[4])?);
                }
                (&arguments[5..], may_store)
            }
        };
        reading.read_options(rest, style, may_store, members)?;
        reading.check(&arguments[0], style)?;
        let Reading { centre, area, mut options, target } = reading;
        if options.count > 0 && options.order.is_none() && !options.any {
            options.order = Some(Order::NearestFirst);
        }
        let shape = centre.zip(area).filter(|_| !members.is_empty()).map(|(centre, (extent, unit))| Shape { centre, extent, unit });
        Ok(Self { shape, options, target })
    }

    /// Everything that lies within, as much of it as is asked for and in the order asked for.
    fn find(&self, members: &Members) -> Vec<Found> {
        let Some(shape) = &self.shape else { return Vec::new() };
        let most = if self.options.any { self.options.count } else { usize::MAX };
        let within = |(least, beyond): (f64, f64)| {
            let place = |bound: f64| members.partition_point(|(_, score)| score.value() < bound);
            &members[place(least)..place(beyond).max(place(least))]
        };
        let inside = |(member, score): &(Bytes, Score)| {
            let place = Place::of_score(score.value());
            let distance = shape.distance_within(place)?;
            Some(Found { member: member.clone(), score: *score, place, distance })
        };
        let cells = shape.cells();
        let mut found: Vec<Found> = cells.iter().flat_map(|cell| within(cell.scores())).filter_map(inside).take(most).collect();
        let nearer = |one: &Found, other: &Found| one.distance.partial_cmp(&other.distance).unwrap_or(Ordering::Equal);
        match self.options.order {
            Some(Order::NearestFirst) => found.sort_by(nearer),
            Some(Order::FarthestFirst) => found.sort_by(|one, other| nearer(other, one)),
            None => {}
        }
        if self.options.count > 0 {
            found.truncate(self.options.count);
        }
        found.iter_mut().for_each(|found| found.distance /= shape.unit);
        found
    }
}

/// Arguments as far as they are read.
#[derive(Default)]
struct Reading {
    centre: Option<Place>,
    area: Option<(Extent, f64)>,
    options: Options,
    target: Option<Bytes>,
}

impl Reading {
    fn read_options(&mut self, arguments: &[Bytes], style: Style, may_store: bool, members: &Members) -> Result<(), CommandError> {
        let by_options = matches!(style, Style::Options { .. });
        let (mut from_member, mut from_place, mut by_radius, mut by_box) = (false, false, false, false);
        let mut rest = arguments;
        while let Some((name, after)) = rest.split_first() {
            rest = match after {
                [number, after @ ..] if is(name, "count") => {
                    let count = integer(number)?;
                    let count = usize::try_from(count).ok().filter(|count| *count > 0);
                    self.options.count = count.ok_or_else(|| CommandError::other("ERR COUNT must be > 0"))?;
                    after
                }
                [target, after @ ..] if may_store && (is(name, "store") || is(name, "storedist")) => {
                    self.target = Some(target.clone());
                    self.options.stores_distance = is(name, "storedist");
                    after
                }
                [member, after @ ..] if by_options && is(name, "frommember") && !from_place => {
                    (self.centre, from_member) = (Some(place_of(member, members)?), true);
                    after
                }
                [longitude, latitude, after @ ..] if by_options && is(name, "fromlonlat") && !from_member => {
                    (self.centre, from_place) = (Some(place(longitude, latitude)?), true);
                    after
                }
                [length, unit, after @ ..] if by_options && is(name, "byradius") && !by_box => {
                    (self.area, by_radius) = (Some(radius(length, unit)?), true);
                    after
                }
                [width, height, unit, after @ ..] if by_options && is(name, "bybox") && !by_radius => {
                    (self.area, by_box) = (Some(rectangle(width, height, unit)?), true);
                    after
                }
                after => {
                    match () {
                        () if is(name, "withdist") => self.options.with_distance = true,
                        () if is(name, "withhash") => self.options.with_hash = true,
                        () if is(name, "withcoord") => self.options.with_place = true,
                        () if is(name, "any") => self.options.any = true,
                        () if is(name, "asc") => self.options.order = Some(Order::NearestFirst),
                        () if is(name, "desc") => self.options.order = Some(Order::FarthestFirst),
                        () if style == (Style::Options { stores: true }) && is(name, "storedist") => self.options.stores_distance = true,
                        () => return Err(CommandError::Syntax),
                    }
                    after
                }
            };
        }
        Ok(())
    }

    /// Checks what does not go together, or is missing.
    fn check(&self, command: &[u8], style: Style) -> Result<(), CommandError> {
        let Options { with_distance, with_hash, with_place, any, count, .. } = self.options;
        let by_options = matches!(style, Style::Options { .. });
        let command = String::from_utf8_lossy(command);
        if self.target.is_some() && (with_distance || with_hash || with_place) {
            let what = if by_options { "GEOSEARCHSTORE" } else { "STORE option in GEORADIUS" };
            return Err(CommandError::Other(format!("ERR {what} is not compatible with WITHDIST, WITHHASH and WITHCOORD options")));
        }
        if by_options && self.centre.is_none() {
            return Err(CommandError::Other(format!("ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {command}")));
        }
        if by_options && self.area.is_none() {
            return Err(CommandError::Other(format!("ERR exactly one of BYRADIUS and BYBOX can be specified for {command}")));
        }
        if any && count == 0 {
            return Err(CommandError::other("ERR the ANY argument requires COUNT argument"));
        }
        Ok(())
    }
}

impl Options {
    /// What is found, as a reply: the member alone, or an array of it and what else is asked for.
    fn told(&self, found: &Found) -> Reply {
        let mut told = vec![Reply::Bulk(found.member.clone())];
        if self.with_distance {
            told.push(told_distance(found.distance));
        }
        if self.with_hash {
            #[expect(clippy::cast_possible_truncation, reason = "scores of places are whole numbers of 52 bits")]
            told.push(Reply::Integer(found.score.value() as i64));
        }
        if self.with_place {
            told.push(told_place(found.place));
        }
        if told.len() == 1 { Reply::Bulk(found.member.clone()) } else { Reply::Array(told) }
    }

    /// What is found, as a member of the target.
    fn stored(&self, found: &Found) -> (Bytes, Score) {
        (found.member.clone(), if self.stores_distance { Score::new(found.distance) } else { found.score })
    }
}
