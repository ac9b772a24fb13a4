//! Places: sorted sets whose scores are cells of a grid over the earth. Rows first, then the handlers by subject.
//!
//! A search looks at the ranges of scores that cover its area (see `base::geo`), and at each member in them. It runs on the shard of
//! its source; what is to be stored elsewhere goes there in a second hop.

use super::docs::Group;
use super::keys::{Begin, Find, KeyFlags, KeySpec};
use super::table::{Flags, Row, Run};
use super::zset_range::store;
use crate::base::float::parse_f64;
use crate::base::geo::{Area, Place};
use crate::base::num::parse_i64;
use crate::resp::{Args, CommandError, OwnedArgs, Reply, Resp};
use crate::shard::cx::{DataFn, ReadCx, WriteCx};
use crate::txn::{Coordinator, Plan};
use crate::types::zset::{Zset, ZsetLimits};

/// What all rows of this file share.
const GEO: Row = Row { group: Group::Geo, ..Row::DEFAULT };

/// Where a search that stores says where to: the last time counts.
const fn stored_by(word: &'static str, from: usize, others: &'static [(&'static str, usize)]) -> Begin {
    Begin::OptionKeyword { told: (word, from as i32), from, last: true, others }
}

/// The family's rows.
pub const ROWS: &[Row] = &[
    Row {
        name: "geoadd",
        usage: "key [NX | XX] [CH] longitude latitude member [longitude latitude member ...]",
        summary: "Adds members at places, given as longitude and latitude.",
        since: "3.2.0",
        complexity: "O(log(N)) for each member, where N is the number of members.",
        arity: -5,
        flags: Flags::WRITE.and(Flags::DENYOOM),
        keys: &[KeySpec::one(1, KeyFlags::RW.and(KeyFlags::UPDATE))],
        run: Run::Data(DataFn::Write(geoadd)),
        ..GEO
    },
    Row {
        name: "geodist",
        usage: "key member1 member2 [M | KM | FT | MI]",
        summary: "Replies with the distance between two members.",
        since: "3.2.0",
        arity: -4,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        run: Run::Data(DataFn::Read(geodist)),
        ..GEO
    },
    Row {
        name: "geohash",
        usage: "key member [member ...]",
        summary: "Replies with the places of members as geohash strings.",
        since: "3.2.0",
        complexity: "O(1) for each member asked for.",
        arity: -2,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        run: Run::Data(DataFn::Read(geohash)),
        ..GEO
    },
    Row {
        name: "geopos",
        usage: "key member [member ...]",
        summary: "Replies with the places of members as longitude and latitude.",
        since: "3.2.0",
        complexity: "O(1) for each member asked for.",
        arity: -2,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        run: Run::Data(DataFn::Read(geopos)),
        ..GEO
    },
    Row {
        name: "georadius",
        usage: "key longitude latitude radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC] [STORE key] [STOREDIST key]",
        summary: "Replies with or stores the members around a place.",
        since: "3.2.0",
        complexity: "O(N+log(M)) where N is the number of members in the cells around the area and M the number of all.",
        arity: -6,
        flags: Flags::WRITE.and(Flags::DENYOOM),
        keys: &[
            KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS)),
            KeySpec {
                flags: KeyFlags::OW.and(KeyFlags::UPDATE),
                begin: stored_by("STORE", 6, &[("COUNT", 1), ("STOREDIST", 1)]),
                find: Find::Range { last: 0, step: 1, limit: 0 },
            },
            KeySpec {
                flags: KeyFlags::OW.and(KeyFlags::UPDATE),
                begin: stored_by("STOREDIST", 6, &[("COUNT", 1), ("STORE", 1)]),
                find: Find::Range { last: 0, step: 1, limit: 0 },
            },
        ],
        deprecated: Some(("6.2.0", "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` argument")),
        run: Run::Hops(DataFn::Write(georadius), georadius_plan),
        ..GEO
    },
    Row {
        name: "georadius_ro",
        usage: "key longitude latitude radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC]",
        summary: "Replies with the members around a place.",
        since: "3.2.10",
        complexity: "O(N+log(M)) where N is the number of members in the cells around the area and M the number of all.",
        arity: -6,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        deprecated: Some(("6.2.0", "`GEOSEARCH` with the `BYRADIUS` argument")),
        run: Run::Data(DataFn::Read(georadius_ro)),
        ..GEO
    },
    Row {
        name: "georadiusbymember",
        usage: "key member radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC] [STORE key] [STOREDIST key]",
        summary: "Replies with or stores the members around another.",
        since: "3.2.0",
        complexity: "O(N+log(M)) where N is the number of members in the cells around the area and M the number of all.",
        arity: -5,
        flags: Flags::WRITE.and(Flags::DENYOOM),
        keys: &[
            KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS)),
            KeySpec {
                flags: KeyFlags::OW.and(KeyFlags::UPDATE),
                begin: stored_by("STORE", 5, &[("COUNT", 1), ("STOREDIST", 1)]),
                find: Find::Range { last: 0, step: 1, limit: 0 },
            },
            KeySpec {
                flags: KeyFlags::OW.and(KeyFlags::UPDATE),
                begin: stored_by("STOREDIST", 5, &[("COUNT", 1), ("STORE", 1)]),
                find: Find::Range { last: 0, step: 1, limit: 0 },
            },
        ],
        deprecated: Some(("6.2.0", "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` and `FROMMEMBER` arguments")),
        run: Run::Hops(DataFn::Write(georadiusbymember), georadiusbymember_plan),
        ..GEO
    },
    Row {
        name: "georadiusbymember_ro",
        usage: "key member radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC]",
        summary: "Replies with the members around another.",
        since: "3.2.10",
        complexity: "O(N+log(M)) where N is the number of members in the cells around the area and M the number of all.",
        arity: -5,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        deprecated: Some(("6.2.0", "`GEOSEARCH` with the `BYRADIUS` and `FROMMEMBER` arguments")),
        run: Run::Data(DataFn::Read(georadiusbymember_ro)),
        ..GEO
    },
    Row {
        name: "geosearch",
        usage: "key <FROMMEMBER member | FROMLONLAT longitude latitude> <BYRADIUS radius <M | KM | FT | MI> | BYBOX width height <M | KM | FT | MI>> [ASC | DESC] [COUNT count [ANY]] [WITHCOORD] [WITHDIST] [WITHHASH]",
        summary: "Replies with the members in a circle or a rectangle.",
        since: "6.2.0",
        complexity: "O(N+log(M)) where N is the number of members in the cells around the area and M the number of all.",
        arity: -7,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS))],
        run: Run::Data(DataFn::Read(geosearch)),
        ..GEO
    },
    Row {
        name: "geosearchstore",
        usage: "destination source <FROMMEMBER member | FROMLONLAT longitude latitude> <BYRADIUS radius <M | KM | FT | MI> | BYBOX width height <M | KM | FT | MI>> [ASC | DESC] [COUNT count [ANY]] [STOREDIST]",
        summary: "Stores the members in a circle or a rectangle.",
        since: "6.2.0",
        complexity: "O(N+log(M)) where N is the number of members in the cells around the area and M the number of all.",
        arity: -8,
        flags: Flags::WRITE.and(Flags::DENYOOM),
        keys: &[
            KeySpec::one(1, KeyFlags::OW.and(KeyFlags::UPDATE)),
            KeySpec::one(2, KeyFlags::RO.and(KeyFlags::ACCESS)),
        ],
        run: Run::Hops(DataFn::Write(geosearchstore), geosearchstore_plan),
        ..GEO
    },
];

type Done = Result<(), CommandError>;

/// Metres of a unit.
fn unit(word: &[u8]) -> Result<f64, CommandError> {
    let units: [(&[u8], f64); 4] = [(b"m", 1.0), (b"km", 1000.0), (b"ft", 0.3048), (b"mi", 1609.34)];
    let found = units.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
    let unknown = CommandError::Custom("ERR unsupported unit provided. please use M, KM, FT, MI");
    found.map(|(_, metres)| metres).ok_or(unknown)
}

fn place(longitude: &[u8], latitude: &[u8]) -> Result<Place, CommandError> {
    let number = |text| parse_f64(text).ok_or(CommandError::NotAFloat);
    let (longitude, latitude) = (number(longitude)?, number(latitude)?);
    Place::new(longitude, latitude).ok_or_else(|| {
        CommandError::Message(format!("ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}"))
    })
}

/// A coordinate with 17 digits behind the point, those that are zero at its end left out.
fn push_coordinate(reply: &mut Reply, degrees: f64) {
    let text = format!("{degrees:.17}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    match reply.proto() {
        Resp::V2 => reply.bulk(text.as_bytes()),
        Resp::V3 => reply.raw(format!(",{text}\r\n").as_bytes()),
    }
}

fn push_place(reply: &mut Reply, place: Place) {
    reply.array(2);
    push_coordinate(reply, place.longitude);
    push_coordinate(reply, place.latitude);
}

fn push_distance(reply: &mut Reply, distance: f64) {
    reply.bulk(format!("{distance:.4}").as_bytes());
}

// Members and their places.

fn geoadd(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let (mut nx, mut xx, mut ch) = (false, false, false);
    let mut first = 2;
    while first < args.len() {
        match args.get(first) {
            word if word.eq_ignore_ascii_case(b"nx") => nx = true,
            word if word.eq_ignore_ascii_case(b"xx") => xx = true,
            word if word.eq_ignore_ascii_case(b"ch") => ch = true,
            _ => break,
        }
        first += 1;
    }
    if !(args.len() - first).is_multiple_of(3) || (nx && xx) {
        return Err(CommandError::Syntax);
    }
    let mut scores = Vec::new();
    for at in (first..args.len()).step_by(3) {
        scores.push(place(args.get(at), args.get(at + 1))?.score());
    }
    if scores.is_empty() {
        return Err(CommandError::Syntax);
    }
    let counted = cx.modify_or_create(args.get(1), |zset: &mut Zset, env| {
        let limits = env.config.zset_limits();
        let (mut added, mut updated) = (0, 0);
        for (score, at) in scores.iter().zip((first..args.len()).step_by(3)) {
            let member = args.get(at + 2);
            match zset.score(member) {
                Some(_) if nx => {}
                None if xx => {}
                old => {
                    zset.set(member, *score, limits);
                    added += u64::from(old.is_none());
                    updated += u64::from(old.is_some_and(|old| old != *score));
                }
            }
        }
        env.changed(added + updated);
        env.event_if(added + updated > 0, "zadd");
        if ch { added + updated } else { added }
    })?;
    reply.int(counted as i64);
    Ok(())
}

fn geopos(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let zset = cx.typed::<Zset>(args.get(1))?;
    reply.array(args.len() - 2);
    for member in args.slice(2).iter() {
        match zset.and_then(|zset| zset.score(member)) {
            Some(score) => push_place(reply, Place::from_score(score)),
            None => reply.null_array(),
        }
    }
    Ok(())
}

fn geohash(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let zset = cx.typed::<Zset>(args.get(1))?;
    reply.array(args.len() - 2);
    for member in args.slice(2).iter() {
        match zset.and_then(|zset| zset.score(member)) {
            Some(score) => reply.bulk(&Place::from_score(score).geohash()),
            None => reply.null(),
        }
    }
    Ok(())
}

fn geodist(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let metres = match args.len() {
        4 => 1.0,
        5 => unit(args.get(4))?,
        _ => return Err(CommandError::Syntax),
    };
    let zset = cx.typed::<Zset>(args.get(1))?;
    let place = |member| Some(Place::from_score(zset?.score(member)?));
    match (place(args.get(2)), place(args.get(3))) {
        (Some(a), Some(b)) => push_distance(reply, a.distance(b) / metres),
        _ => reply.null(),
    }
    Ok(())
}

// Searching.

/// Which command's arguments are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// GEORADIUS, and whether it may store.
    Around(bool),
    /// GEORADIUSBYMEMBER, and whether it may store.
    AroundMember(bool),
    Search,
    SearchStore,
}

impl Kind {
    fn source_at(self) -> usize {
        if self == Kind::SearchStore { 2 } else { 1 }
    }

    fn name(self) -> &'static str {
        if self == Kind::SearchStore { "geosearchstore" } else { "geosearch" }
    }

    /// The event of a result that was stored.
    fn stored(self) -> &'static str {
        if self == Kind::SearchStore { "geosearchstore" } else { "georadiusstore" }
    }
}

/// One member that was found.
struct Found {
    member: Vec<u8>,
    score: f64,
    /// From the centre, in the search's unit.
    distance: f64,
}

/// What a search has found, and what is to be done with it.
struct Outcome {
    found: Vec<Found>,
    with_distance: bool,
    with_hash: bool,
    with_place: bool,
    /// Where to store it, and whether with distances as scores.
    destination: Option<(Vec<u8>, bool)>,
}

/// What is read from the arguments, until the source is searched.
#[derive(Default)]
struct Query {
    centre: Option<Place>,
    /// In metres.
    area: Option<Area>,
    /// Metres of the unit.
    metres: f64,
    /// The centre is a member of a source that is not there.
    centre_missing: bool,
    with_distance: bool,
    with_hash: bool,
    with_place: bool,
    any: bool,
    /// Ascending, descending or as it comes.
    ascending: Option<bool>,
    count: usize,
    destination: Option<(usize, bool)>,
}

impl Query {
    fn radius(&mut self, radius: &[u8], unit_name: &[u8]) -> Done {
        let radius = parse_f64(radius).ok_or(CommandError::Custom("ERR need numeric radius"))?;
        if radius < 0.0 {
            return Err(CommandError::Custom("ERR radius cannot be negative"));
        }
        self.metres = unit(unit_name)?;
        self.area = Some(Area::Circle(radius * self.metres));
        Ok(())
    }

    fn rectangle(&mut self, width: &[u8], height: &[u8], unit_name: &[u8]) -> Done {
        let width = parse_f64(width).ok_or(CommandError::Custom("ERR need numeric width"))?;
        let height = parse_f64(height).ok_or(CommandError::Custom("ERR need numeric height"))?;
        if width < 0.0 || height < 0.0 {
            return Err(CommandError::Custom("ERR height or width cannot be negative"));
        }
        self.metres = unit(unit_name)?;
        self.area = Some(Area::Box(width * self.metres, height * self.metres));
        Ok(())
    }

    fn member(&mut self, zset: Option<&Zset>, member: &[u8]) -> Done {
        match zset {
            None => self.centre_missing = true,
            Some(zset) => {
                let unknown = CommandError::Custom("ERR could not decode requested zset member");
                self.centre = Some(Place::from_score(zset.score(member).ok_or(unknown)?));
            }
        }
        Ok(())
    }

    fn parse(args: Args<'_>, kind: Kind, zset: Option<&Zset>) -> Result<Query, CommandError> {
        let mut query = Query::default();
        let mut at = match kind {
            Kind::Around(_) => {
                query.centre = Some(place(args.get(2), args.get(3))?);
                query.radius(args.get(4), args.get(5))?;
                6
            }
            Kind::AroundMember(_) => {
                query.member(zset, args.get(2))?;
                if zset.is_some() {
                    query.radius(args.get(3), args.get(4))?;
                }
                5
            }
            Kind::Search => 2,
            Kind::SearchStore => {
                query.destination = Some((1, false));
                3
            }
        };
        let searches = matches!(kind, Kind::Search | Kind::SearchStore);
        let may_store = matches!(kind, Kind::Around(true) | Kind::AroundMember(true));
        let (mut by_radius, mut by_box, mut from_member, mut from_place) = (false, false, false, false);
        while at < args.len() {
            let word = args.get(at);
            let left = args.len() - at - 1;
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            match () {
                () if is("withdist") => query.with_distance = true,
                () if is("withhash") => query.with_hash = true,
                () if is("withcoord") => query.with_place = true,
                () if is("any") => query.any = true,
                () if is("asc") => query.ascending = Some(true),
                () if is("desc") => query.ascending = Some(false),
                () if is("count") && left >= 1 => {
                    let count = parse_i64(args.get(at + 1)).ok_or(CommandError::NotAnInteger)?;
                    if count <= 0 {
                        return Err(CommandError::Custom("ERR COUNT must be > 0"));
                    }
                    query.count = usize::try_from(count).unwrap_or(usize::MAX);
                    at += 1;
                }
                () if may_store && (is("store") || is("storedist")) && left >= 1 => {
                    query.destination = Some((at + 1, is("storedist")));
                    at += 1;
                }
                () if kind == Kind::SearchStore && is("storedist") => query.destination = Some((1, true)),
                () if searches && is("frommember") && left >= 1 && !from_place => {
                    query.member(zset, args.get(at + 1))?;
                    from_member = true;
                    at += 1;
                }
                () if searches && is("fromlonlat") && left >= 2 && !from_member => {
                    query.centre = Some(place(args.get(at + 1), args.get(at + 2))?);
                    from_place = true;
                    at += 2;
                }
                () if searches && is("byradius") && left >= 2 && !by_box => {
                    query.radius(args.get(at + 1), args.get(at + 2))?;
                    by_radius = true;
                    at += 2;
                }
                () if searches && is("bybox") && left >= 3 && !by_radius => {
                    query.rectangle(args.get(at + 1), args.get(at + 2), args.get(at + 3))?;
                    by_box = true;
                    at += 3;
                }
                () => return Err(CommandError::Syntax),
            }
            at += 1;
        }
        if query.destination.is_some() && (query.with_distance || query.with_hash || query.with_place) {
            let who = if kind == Kind::SearchStore { "GEOSEARCHSTORE" } else { "STORE option in GEORADIUS" };
            return Err(CommandError::Message(format!(
                "ERR {who} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            )));
        }
        if searches && !from_member && !from_place {
            return Err(CommandError::Message(format!(
                "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {}",
                kind.name()
            )));
        }
        if searches && !by_radius && !by_box {
            return Err(CommandError::Message(format!(
                "ERR exactly one of BYRADIUS and BYBOX can be specified for {}",
                kind.name()
            )));
        }
        if query.any && query.count == 0 {
            return Err(CommandError::Custom("ERR the ANY argument requires COUNT argument"));
        }
        Ok(query)
    }

    fn run(&self, zset: &Zset) -> Vec<Found> {
        let (Some(centre), Some(area)) = (self.centre, self.area) else { return Vec::new() };
        let enough = if self.any { self.count } else { usize::MAX };
        let mut found = Vec::new();
        for (from, to) in area.score_ranges(centre) {
            if found.len() >= enough {
                break;
            }
            let first = zset.count_while(|score, _| score < from);
            zset.walk(first, false, |member, score| {
                if score >= to {
                    return false;
                }
                if let Some(distance) = area.distance_within(centre, Place::from_score(score)) {
                    found.push(Found { member: member.to_vec(), score, distance: distance / self.metres });
                }
                found.len() < enough
            });
        }
        // The closest ones are asked for, unless any will do.
        let ascending = self.ascending.or((self.count > 0 && !self.any).then_some(true));
        if let Some(ascending) = ascending {
            found.sort_by(|a, b| {
                let order = a.distance.total_cmp(&b.distance);
                if ascending { order } else { order.reverse() }
            });
        }
        if self.count > 0 {
            found.truncate(self.count);
        }
        found
    }
}

/// Searches on the shard of the source.
fn search(cx: &mut ReadCx<'_>, args: Args<'_>, kind: Kind) -> Result<Outcome, CommandError> {
    let zset = cx.typed::<Zset>(args.get(kind.source_at()))?;
    let query = Query::parse(args, kind, zset)?;
    let found = zset.filter(|_| !query.centre_missing).map_or_else(Vec::new, |zset| query.run(zset));
    Ok(Outcome {
        found,
        with_distance: query.with_distance,
        with_hash: query.with_hash,
        with_place: query.with_place,
        destination: query.destination.map(|(at, distances)| (args.get(at).to_vec(), distances)),
    })
}

impl Outcome {
    fn push(&self, reply: &mut Reply) {
        reply.array(self.found.len());
        let parts = [self.with_distance, self.with_hash, self.with_place].into_iter().filter(|with| *with).count();
        for found in &self.found {
            if parts > 0 {
                reply.array(1 + parts);
            }
            reply.bulk(&found.member);
            if self.with_distance {
                push_distance(reply, found.distance);
            }
            if self.with_hash {
                reply.int(found.score as i64);
            }
            if self.with_place {
                push_place(reply, Place::from_score(found.score));
            }
        }
    }

    /// The members as a sorted set, with their scores or their distances.
    fn into_zset(self, distances: bool, limits: ZsetLimits) -> Zset {
        let mut zset = Zset::default();
        for found in self.found {
            zset.set(&found.member, if distances { found.distance } else { found.score }, limits);
        }
        zset
    }
}

fn read(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply, kind: Kind) -> Done {
    search(cx, args, kind)?.push(reply);
    Ok(())
}

fn write(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply, kind: Kind) -> Done {
    let outcome = search(cx, args, kind)?;
    match outcome.destination.clone() {
        None => outcome.push(reply),
        Some((destination, distances)) => {
            let result = outcome.into_zset(distances, cx.config().zset_limits());
            store(cx, &destination, result, kind.stored(), reply);
        }
    }
    Ok(())
}

fn write_plan(coordinator: Coordinator, args: OwnedArgs, kind: Kind) -> Plan {
    Box::pin(async move {
        let source = args.as_args().get(kind.source_at()).to_vec();
        let outcome = coordinator.with_key(&source, move |cx| search(cx, args.as_args(), kind)).await?;
        let mut reply = coordinator.reply();
        let Some((destination, distances)) = outcome.destination.clone() else {
            outcome.push(&mut reply);
            return Ok(reply);
        };
        let name = destination.clone();
        let reply = coordinator
            .with_key(&destination, move |cx| {
                let result = outcome.into_zset(distances, cx.config().zset_limits());
                store(cx, &name, result, kind.stored(), &mut reply);
                reply
            })
            .await;
        Ok(reply)
    })
}

fn geosearch(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    read(cx, args, reply, Kind::Search)
}

fn georadius_ro(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    read(cx, args, reply, Kind::Around(false))
}

fn georadiusbymember_ro(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    read(cx, args, reply, Kind::AroundMember(false))
}

fn geosearchstore(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    write(cx, args, reply, Kind::SearchStore)
}

fn georadius(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    write(cx, args, reply, Kind::Around(true))
}

fn georadiusbymember(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    write(cx, args, reply, Kind::AroundMember(true))
}

fn geosearchstore_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    write_plan(coordinator, args, Kind::SearchStore)
}

fn georadius_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    write_plan(coordinator, args, Kind::Around(true))
}

fn georadiusbymember_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    write_plan(coordinator, args, Kind::AroundMember(true))
}
