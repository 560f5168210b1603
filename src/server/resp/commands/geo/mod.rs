//! Places: members of sorted sets whose scores are cells of the map (see [`cell`]). Searches are in [`search`].
//!
//! A place is an ordinary score: of concurrent GEOADDs of a member the latest shows, and every command on sorted sets works on places, too.

mod cell;
mod search;
mod shape;

use bytes::Bytes;

use self::cell::{Place, STEPS};
use super::action::{CommandError, Operation, plain};
use super::options::is;
use super::spec::{Flags, Group, Parsed, Spec};
use crate::crdt::command::Answer;
use crate::crdt::float::parse_double;
use crate::crdt::sorted_set::{AddCondition, Mutation, Presence, Query, Score};
use crate::server::resp::reply::Reply;

const READ: Flags = Flags::READONLY;
const GROW: Flags = Flags::WRITE.and(Flags::DENYOOM);

pub(super) const COMMANDS: &[Spec] = &[
    Group::Geo.row("geoadd", -5, GROW, "Add one or more geospatial items in the geospatial index represented using a sorted set", "3.2.0", geoadd),
    Group::Geo.row("geopos", -2, READ, "Returns longitude and latitude of members of a geospatial index", "3.2.0", geopos),
    Group::Geo.row("geohash", -2, READ, "Returns members of a geospatial index as standard geohash strings", "3.2.0", geohash),
    Group::Geo.row("geodist", -4, READ, "Returns the distance between two members of a geospatial index", "3.2.0", geodist),
    Group::Geo.row("geosearch", -7, READ, "Query a sorted set representing a geospatial index to fetch members inside an area of a box or a circle.", "6.2.0", search::geosearch),
    Spec {
        keys: (1, 2, 1),
        ..Group::Geo.row("geosearchstore", -8, GROW, "Query a sorted set representing a geospatial index to fetch members inside an area of a box or a circle, and store the result in another key.", "6.2.0", search::geosearchstore)
    },
    Group::Geo.row("georadius", -6, GROW, "Query a sorted set representing a geospatial index to fetch members matching a given maximum distance from a point", "3.2.0", search::georadius),
    Group::Geo.row("georadius_ro", -6, READ, "A read-only variant for GEORADIUS", "3.2.10", search::georadius_ro),
    Group::Geo.row("georadiusbymember", -5, GROW, "Query a sorted set representing a geospatial index to fetch members matching a given maximum distance from a member", "3.2.0", search::georadiusbymember),
    Group::Geo.row("georadiusbymember_ro", -5, READ, "A read-only variant for GEORADIUSBYMEMBER", "3.2.10", search::georadiusbymember_ro),
];

/// A place from its longitude and latitude.
///
/// # Errors
/// Where one of them is no number, or they lie beyond the map.
fn place(longitude: &[u8], latitude: &[u8]) -> Result<Place, CommandError> {
    let degrees = |text: &[u8]| parse_double(text).ok_or(CommandError::NotAFloat);
    let place = Place { longitude: degrees(longitude)?, latitude: degrees(latitude)? };
    if place.is_on_map() {
        return Ok(place);
    }
    Err(CommandError::Other(format!("ERR invalid longitude,latitude pair {:.6},{:.6}", place.longitude, place.latitude)))
}

/// How many metres a unit has.
///
/// # Errors
/// Where there is no such unit.
fn unit(name: &[u8]) -> Result<f64, CommandError> {
    let units = [("m", 1.0), ("km", 1000.0), ("ft", 0.3048), ("mi", 1609.34)];
    let found = units.into_iter().find(|(known, _)| is(name, known));
    found.map(|(_, metres)| metres).ok_or_else(|| CommandError::other("ERR unsupported unit provided. please use M, KM, FT, MI"))
}

/// A distance as Redis tells it: with four digits behind the point.
fn told_distance(distance: f64) -> Reply {
    Reply::text(format_args!("{distance:.4}"))
}

/// A place as Redis tells it.
fn told_place(place: Place) -> Reply {
    Reply::Array([place.longitude, place.latitude].into_iter().map(Reply::digits).collect())
}

fn geoadd(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let (mut nx, mut xx, mut changed) = (false, false, false);
    let options = arguments[2..].iter().take_while(|option| {
        match () {
            () if is(option, "nx") => nx = true,
            () if is(option, "xx") => xx = true,
            () if is(option, "ch") => changed = true,
            () => return false,
        }
        true
    });
    let first = 2 + options.count();
    let places = &arguments[first..];
    if places.is_empty() || !places.len().is_multiple_of(3) || nx && xx {
        return Err(CommandError::Syntax);
    }
    let member = |item: &[Bytes]| Ok((item[2].clone(), Score::new(place(&item[0], &item[1])?.cell(STEPS).scores().0)));
    let members = places.chunks_exact(3).map(member).collect::<Result<_, CommandError>>()?;
    let presence = match (nx, xx) {
        (true, _) => Presence::Absent,
        (_, true) => Presence::Present,
        _ => Presence::Any,
    };
    let condition = AddCondition { presence, ..AddCondition::default() };
    Ok(Operation::write(&arguments[1], Mutation::Add { members, condition, changed }).plain())
}

/// Asks for members, and shows the place of each.
fn of_members(arguments: &[Bytes], show: fn(Option<Place>) -> Reply) -> Parsed {
    Ok(Operation::read(&arguments[1], Query::Scores(arguments[2..].to_vec())).shaped(move |answer| match answer {
        Answer::Scores(scores) => {
            Reply::Array(scores.into_iter().map(|score| show(score.map(|score| Place::of_score(score.value())))).collect())
        }
        other => plain(other),
    }))
}

fn geopos(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    of_members(arguments, |place| place.map_or(Reply::NullArray, told_place))
}

fn geohash(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    of_members(arguments, |place| place.map_or(Reply::Null, |place| Reply::bulk(place.letters())))
}

/// `GEODIST key one other [unit]`.
fn geodist(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let unit = match &arguments[4..] {
        [] => 1.0,
        [name] => unit(name)?,
        _ => return Err(CommandError::Syntax),
    };
    Ok(Operation::read(&arguments[1], Query::Scores(arguments[2..4].to_vec())).shaped(move |answer| match answer {
        Answer::Scores(scores) => match scores.as_slice() {
            [Some(one), Some(other)] => {
                let (one, other) = (Place::of_score(one.value()), Place::of_score(other.value()));
                told_distance(shape::distance(one, other) / unit)
            }
            _ => Reply::Null,
        },
        other => plain(other),
    }))
}
