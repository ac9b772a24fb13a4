//! SORT and SORT_RO: the elements of a list, a set or a sorted set in an order that they, or keys named after them, decide.
//!
//! ```text
//!   data call     elements of the key ─ weights (BY) ─ sort ─ values (GET) ─ reply or STORE     one shard owns all, or few elements
//!
//!   plan          a snapshot ──> runs of 4,096, each ranked and sorted ──> merged as far as LIMIT wants ──> reply or STORE
//!                                 │                                          │
//!                                 └ BY: one call to each shard               └ GET: one call to each shard
//! ```
//!
//! The keys that BY and GET name can lie anywhere, so with several shards a SORT that uses them asks each shard once for all the
//! weights, and once for all the values, that it owns. They are not known before, so it reserves everything for reading meanwhile:
//! see [`Reach::Pointed`]. Without them a long sort works on a snapshot and yields its core after every run. Where one shard owns
//! everything, a SORT with patterns is one step, however long.
//!
//! Texts are compared by their bytes: there is no locale. Elements that weigh the same are in the order of their bytes, or, with
//! BY and ALPHA, a list's in the order of the list.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::Arc;

use super::docs::Group;
use super::element::STREAMED_ELEMENTS_MIN;
use super::keys::{Begin, Find, KeyFlags, KeySpec};
use super::table::{Flags, Reach, Row, Run};
use crate::base::Blob;
use crate::base::float::parse_f64_weight;
use crate::base::num::parse_i64;
use crate::keyspace::Value;
use crate::resp::{Args, CommandError, OwnedArgs, Pieces, Reply, Resp, push_bulk};
use crate::shard::cx::{DataFn, ReadCx, Ttl, WriteCx};
use crate::shard::reservations::Access;
use crate::txn::{Coordinator, Plan};
use crate::types::dict::DictSnapshot;
use crate::types::list::{List, ListSnapshot};
use crate::types::zset::ZsetSnapshot;
use crate::types::{DataType, Hash, Object};

/// The key that is sorted, and those that BY and GET name, which only its elements tell.
const SOURCES: [KeySpec; 2] = [
    KeySpec::one(1, KeyFlags::RO.and(KeyFlags::ACCESS)),
    KeySpec { flags: KeyFlags::RO.and(KeyFlags::ACCESS), begin: Begin::Unknown, find: Find::Unknown },
];

/// What both rows share.
const SORT: Row = Row {
    complexity: "O(N+M*log(M)) where N is the number of elements of the key and M the number that is replied with.",
    group: Group::Generic,
    arity: -2,
    reach: Reach::Pointed(&["by", "get"], Access::Shared),
    acl: &["set", "sortedset", "list", "dangerous"],
    ..Row::DEFAULT
};

/// The family's rows.
pub const ROWS: &[Row] = &[
    Row {
        name: "sort",
        usage: "key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] [ALPHA] [STORE destination]",
        summary: "Replies with or stores the elements of a list, a set or a sorted set in order.",
        flags: Flags::WRITE.and(Flags::DENYOOM),
        keys: &[
            SOURCES[0],
            SOURCES[1],
            KeySpec {
                flags: KeyFlags::OW.and(KeyFlags::UPDATE),
                begin: Begin::Option("STORE", 2, &[("LIMIT", 2), ("GET", 1), ("BY", 1)]),
                find: Find::Range { last: 0, step: 1, limit: 0 },
            },
        ],
        run: Run::Steps(DataFn::Write(sort), sort_plan),
        ..SORT
    },
    Row {
        name: "sort_ro",
        usage: "key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] [ALPHA]",
        summary: "Replies with the elements of a list, a set or a sorted set in order.",
        since: "7.0.0",
        flags: Flags::READONLY,
        keys: &SOURCES,
        run: Run::Steps(DataFn::Read(sort_ro), sort_ro_plan),
        ..SORT
    },
];

type Done = Result<(), CommandError>;

/// Elements of a run, which is ranked and sorted in one go.
const RUN_ELEMENTS: usize = 4096;

const NO_NUMBER: CommandError = CommandError::Custom("ERR One or more scores can't be converted into double");

/// The name of a key, or of a field of one, with a place for an element in it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Pattern {
    before: Vec<u8>,
    after: Vec<u8>,
    /// Of a hash; none if the key is a string.
    field: Option<Vec<u8>>,
}

impl Pattern {
    /// None if there is no place for an element: such a pattern names nothing.
    fn parse(text: &[u8]) -> Option<Pattern> {
        // Redis looks no further than a zero byte.
        let looked_at = &text[..memchr::memchr(0, text).unwrap_or(text.len())];
        let star = memchr::memchr(b'*', looked_at)?;
        let arrow = memchr::memmem::find(&looked_at[star + 1..], b"->").map(|at| star + 1 + at);
        let arrow = arrow.filter(|at| at + 2 < looked_at.len());
        Some(Pattern {
            before: text[..star].to_vec(),
            after: text[star + 1..arrow.unwrap_or(text.len())].to_vec(),
            field: arrow.map(|at| text[at + 2..].to_vec()),
        })
    }

    fn key(&self, element: &[u8]) -> Vec<u8> {
        [&self.before, element, &self.after].concat()
    }
}

/// What one GET replies with for an element.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Get {
    /// `#`: the element itself.
    Element,
    /// A pattern that names nothing.
    Nothing,
    Key(Pattern),
}

/// What a command asks for.
#[derive(Clone, PartialEq, Debug)]
struct Request {
    key: Vec<u8>,
    by: Option<Pattern>,
    /// BY something that names nothing: the elements stay as they are.
    unsorted: bool,
    gets: Vec<Get>,
    descending: bool,
    alpha: bool,
    offset: i64,
    /// Negative: all.
    count: i64,
    destination: Option<Vec<u8>>,
}

impl Request {
    fn parse(args: Args<'_>, may_store: bool) -> Result<Request, CommandError> {
        let mut request = Request {
            key: args.get(1).to_vec(),
            by: None,
            unsorted: false,
            gets: Vec::new(),
            descending: false,
            alpha: false,
            offset: 0,
            count: -1,
            destination: None,
        };
        let mut at = 2;
        while at < args.len() {
            let left = args.len() - at - 1;
            let is = |name: &str| args.get(at).eq_ignore_ascii_case(name.as_bytes());
            let number = |at: usize| parse_i64(args.get(at)).ok_or(CommandError::NotAnInteger);
            match () {
                () if is("asc") => request.descending = false,
                () if is("desc") => request.descending = true,
                () if is("alpha") => request.alpha = true,
                () if is("limit") && left >= 2 => {
                    (request.offset, request.count) = (number(at + 1)?, number(at + 2)?);
                    at += 2;
                }
                () if may_store && is("store") && left >= 1 => {
                    request.destination = Some(args.get(at + 1).to_vec());
                    at += 1;
                }
                () if is("by") && left >= 1 => {
                    request.by = Pattern::parse(args.get(at + 1));
                    // Said once, it holds, whatever BY follows.
                    request.unsorted |= request.by.is_none();
                    at += 1;
                }
                () if is("get") && left >= 1 => {
                    request.gets.push(match args.get(at + 1) {
                        b"#" => Get::Element,
                        pattern => Pattern::parse(pattern).map_or(Get::Nothing, Get::Key),
                    });
                    at += 1;
                }
                () => return Err(CommandError::Syntax),
            }
            at += 1;
        }
        if request.unsorted {
            request.by = None;
        }
        Ok(request)
    }

    /// Whether other keys than the one that is sorted are read.
    fn has_patterns(&self) -> bool {
        self.by.is_some() || self.gets.iter().any(|get| matches!(get, Get::Key(_)))
    }

    /// The places of so many sorted elements that LIMIT leaves.
    fn window(&self, len: usize) -> Range<usize> {
        let start = usize::try_from(self.offset).unwrap_or(0).min(len);
        let end = usize::try_from(self.count).map_or(len, |count| start.saturating_add(count).min(len));
        start..end
    }

    /// What is asked for of a value of this type: a set has no order of its own, so one that is stored gets one.
    fn of_type(mut self, object: &Object) -> Request {
        if self.unsorted && self.destination.is_some() && matches!(object, Object::Set(_)) {
            (self.unsorted, self.alpha) = (false, true);
        }
        self
    }

    fn order(&self, object: &Object) -> Order {
        let by = match (self.alpha, &self.by) {
            (false, _) => Key::Number,
            (true, None) => Key::Element,
            (true, Some(_)) => Key::Text,
        };
        Order { by, descending: self.descending, keeps_ties: matches!(object, Object::List(_)) }
    }

    /// Replies with what came out, or stores it.
    fn answer(&self, cx: &mut WriteCx<'_>, values: Vec<Found>, reply: &mut Reply) {
        match &self.destination {
            None => push(values, reply),
            Some(destination) => {
                let mut list = List::default();
                let limits = cx.config().list_limits();
                values.iter().for_each(|value| list.push_back(value.bytes().unwrap_or_default(), limits));
                store(cx, destination, list, reply);
                if self.alpha && self.by.is_some() {
                    // Among members of a set whose weights are equal other servers have another order.
                    cx.state_effect(destination);
                }
            }
        }
    }
}

/// What a lookup has found.
#[derive(Clone, Debug)]
enum Found {
    Nothing,
    Bytes(Box<[u8]>),
    Blob(Blob),
}

impl Found {
    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Found::Nothing => None,
            Found::Bytes(bytes) => Some(bytes),
            Found::Blob(blob) => Some(blob),
        }
    }

    fn into_bytes(self) -> Option<Box<[u8]>> {
        match self {
            Found::Nothing => None,
            Found::Bytes(bytes) => Some(bytes),
            Found::Blob(blob) => Some(blob.to_vec().into()),
        }
    }
}

/// What is at the key that a pattern names, on this shard.
fn look_up(cx: &mut ReadCx<'_>, key: &[u8], field: Option<&[u8]>) -> Found {
    let now = cx.now().millis();
    match (cx.get(key).map(|entry| entry.value()), field) {
        (Some(Value::Object(object)), Some(field)) => {
            let value = Hash::of(object).and_then(|hash| hash.get(field, now));
            value.map_or(Found::Nothing, |value| Found::Bytes(value.to_vec().into()))
        }
        (Some(Value::Blob(blob)), None) => Found::Blob(Blob::clone(blob)),
        (Some(value), None) if value.is_string() => Found::Bytes(value.text().to_vec().into()),
        _ => Found::Nothing,
    }
}

/// What is compared first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Key {
    Number,
    Text,
    Element,
}

/// How elements are compared.
#[derive(Clone, Copy, Debug)]
struct Order {
    by: Key,
    descending: bool,
    /// Whether elements of the same text stay as they stood.
    keeps_ties: bool,
}

impl Order {
    fn compare(self, a: &Ranked, b: &Ranked) -> Ordering {
        let elements = || a.element.cmp(&b.element);
        let forward = match self.by {
            Key::Number => a.number.partial_cmp(&b.number).expect("no weight is NaN").then_with(elements),
            Key::Text if self.keeps_ties => a.text.cmp(&b.text),
            Key::Text => a.text.cmp(&b.text).then_with(elements),
            Key::Element => elements(),
        };
        let ordered = if self.descending { forward.reverse() } else { forward };
        ordered.then_with(|| a.place.cmp(&b.place))
    }

    /// The first `wanted` of these, in order.
    fn sort(self, mut all: Vec<Ranked>, wanted: usize) -> Vec<Ranked> {
        if wanted < all.len() / 4 {
            all.select_nth_unstable_by(wanted, |a, b| self.compare(a, b));
            all.truncate(wanted);
        }
        all.sort_unstable_by(|a, b| self.compare(a, b));
        all.truncate(wanted);
        all
    }
}

/// An element and what it is compared by.
struct Ranked {
    number: f64,
    /// A missing one comes first.
    text: Option<Box<[u8]>>,
    element: Box<[u8]>,
    place: usize,
}

impl Ranked {
    /// `weight` is what BY has found; none without BY.
    fn new(order: Order, place: usize, element: Box<[u8]>, weight: Option<Found>) -> Result<Ranked, CommandError> {
        let mut ranked = Ranked { number: 0.0, text: None, element, place };
        match (order.by, weight) {
            (Key::Element, _) => {}
            (Key::Text, weight) => ranked.text = weight.and_then(Found::into_bytes),
            (Key::Number, None) => ranked.number = parse_f64_weight(&ranked.element).ok_or(NO_NUMBER)?,
            (Key::Number, Some(weight)) => {
                if let Some(text) = weight.bytes() {
                    ranked.number = parse_f64_weight(text).ok_or(NO_NUMBER)?;
                }
            }
        }
        Ok(ranked)
    }
}

/// The list, set or sorted set that is to be sorted.
fn source<'a>(cx: &'a mut ReadCx<'_>, key: &[u8]) -> Result<Option<&'a Object>, CommandError> {
    cx.get(key).map_or(Ok(None), |entry| sortable(entry.value()).map(Some))
}

/// The value, if it is of a type that is sorted.
fn sortable(value: Value<'_>) -> Result<&Object, CommandError> {
    match value {
        Value::Object(object @ (Object::List(_) | Object::Set(_) | Object::Zset(_))) => Ok(object),
        _ => Err(CommandError::WrongType),
    }
}

/// Elements as they stand, and which of them are wanted once they are sorted. If they are not to be sorted and have an order of
/// their own, only the wanted ones are read.
fn load(object: &Object, request: &Request) -> (Vec<Box<[u8]>>, Range<usize>) {
    let len = object.len();
    let window = request.window(len);
    let ordered = request.unsorted && !matches!(object, Object::Set(_));
    let backwards = ordered && request.descending;
    let (first, count) = match (ordered, backwards) {
        (false, _) => (0, len),
        (true, false) => (window.start, window.len()),
        (true, true) => ((len - window.start).saturating_sub(1), window.len()),
    };
    let mut elements: Vec<Box<[u8]>> = Vec::with_capacity(count);
    if count > 0 {
        let mut take = |element: &[u8]| {
            elements.push(element.into());
            elements.len() < count
        };
        match object {
            Object::List(list) => list.walk(first, backwards, |item| take(&item.text())),
            Object::Set(set) => set.walk(|item| take(&item.text())),
            Object::Zset(zset) => zset.walk(first, backwards, |item, _| take(&item.text())),
            Object::Hash(_) | Object::Stream(_) | Object::Packed(_) => {
                unreachable!("the source is of a type that is sorted")
            }
        }
    }
    let wanted = if ordered { 0..count } else { window };
    (elements, wanted)
}

/// All of it in one step, on a shard that owns every key that is read.
fn sort_at_once(cx: &mut ReadCx<'_>, request: &Request) -> Result<Vec<Found>, CommandError> {
    let Some(object) = source(cx, &request.key)? else { return Ok(Vec::new()) };
    let request = request.clone().of_type(object);
    let order = request.order(object);
    let (elements, wanted) = load(object, &request);
    let sorted = if request.unsorted {
        elements
    } else {
        let mut all = Vec::with_capacity(elements.len());
        for (place, element) in elements.into_iter().enumerate() {
            let weight = request.by.as_ref().map(|pattern| look_up_here(cx, pattern, &element)).transpose()?;
            all.push(Ranked::new(order, place, element, weight)?);
        }
        order.sort(all, wanted.end).into_iter().map(|ranked| ranked.element).collect()
    };
    let wanted = sorted.into_iter().skip(wanted.start).take(wanted.len());
    if request.gets.is_empty() {
        return Ok(wanted.map(Found::Bytes).collect());
    }
    let mut values = Vec::new();
    for element in wanted {
        for get in &request.gets {
            values.push(match get {
                Get::Element => Found::Bytes(element.clone()),
                Get::Nothing => Found::Nothing,
                Get::Key(pattern) => look_up_here(cx, pattern, &element)?,
            });
        }
    }
    Ok(values)
}

/// As [`look_up`], for callers who have made sure that all keys are here; a key that is not must not pass for a missing one.
fn look_up_here(cx: &mut ReadCx<'_>, pattern: &Pattern, element: &[u8]) -> Result<Found, CommandError> {
    let key = pattern.key(element);
    if !cx.owns(&key) {
        return Err(CommandError::Custom("ERR BY and GET of SORT name keys of another shard here"));
    }
    Ok(look_up(cx, &key, pattern.field.as_deref()))
}

fn sort(cx: &mut WriteCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let request = Request::parse(args, true)?;
    let values = sort_at_once(cx, &request)?;
    request.answer(cx, values, reply);
    Ok(())
}

fn sort_ro(cx: &mut ReadCx<'_>, args: Args<'_>, reply: &mut Reply) -> Done {
    let request = Request::parse(args, false)?;
    push(sort_at_once(cx, &request)?, reply);
    Ok(())
}

fn store(cx: &mut WriteCx<'_>, destination: &[u8], list: List, reply: &mut Reply) {
    reply.int(list.len() as i64);
    cx.changed(list.len().saturating_sub(1) as u64);
    cx.put_object(destination, Object::List(list), Ttl::Clear, "sortstore");
}

/// Values that are encoded while they are sent.
struct ValuePieces {
    values: std::vec::IntoIter<Found>,
    proto: Resp,
}

impl Pieces for ValuePieces {
    fn append_next(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> bool {
        for value in self.values.by_ref() {
            match (value.bytes(), self.proto) {
                (Some(bytes), _) => push_bulk(out, bytes),
                (None, Resp::V2) => out.extend_from_slice(b"$-1\r\n"),
                (None, Resp::V3) => out.extend_from_slice(b"_\r\n"),
            }
            if out.len() >= bytes_max {
                break;
            }
        }
        self.values.len() > 0
    }
}

fn push(values: Vec<Found>, reply: &mut Reply) {
    reply.array(values.len());
    if values.len() >= STREAMED_ELEMENTS_MIN {
        let proto = reply.proto();
        reply.stream(Box::new(ValuePieces { values: values.into_iter(), proto }));
        return;
    }
    for value in &values {
        match value {
            Found::Nothing => reply.null(),
            Found::Bytes(bytes) => reply.bulk(bytes),
            Found::Blob(blob) => reply.blob(blob),
        }
    }
}

// As a plan.

fn sort_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move { run(&coordinator, Request::parse(args.as_args(), true)?).await })
}

fn sort_ro_plan(coordinator: Coordinator, args: OwnedArgs) -> Plan {
    Box::pin(async move { run(&coordinator, Request::parse(args.as_args(), false)?).await })
}

/// How far the first step came.
enum Begun {
    Done(Reply),
    /// The result belongs on another shard.
    Sorted(Vec<Found>),
    /// What is to be sorted, for a look at it, and its elements.
    Loaded(Request, Order, Elements, Range<usize>),
}

async fn run(coordinator: &Coordinator, request: Request) -> Result<Reply, CommandError> {
    let slots = coordinator.slots();
    let all_here = slots.shards() == 1 || !request.has_patterns();
    let stored_here = request.destination.as_ref().is_none_or(|to| slots.shard_of(to) == slots.shard_of(&request.key));
    let (key, destination, mut reply) = (request.key.clone(), request.destination.clone(), coordinator.reply());
    let begun = coordinator
        .with_key(&key, move |cx| {
            // A first look that nobody counts: the command looks its key up once.
            let len = cx.peek(&request.key).map_or(Ok(0), |entry| sortable(entry.value()).map(Object::len))?;
            let in_steps = !all_here || (len > RUN_ELEMENTS && !request.has_patterns());
            if len > 0
                && in_steps
                && let Some(object) = source(cx, &request.key)?
            {
                let request = request.of_type(object);
                let order = request.order(object);
                let (elements, wanted) = Elements::of(object, &request);
                return Ok(Begun::Loaded(request, order, elements, wanted));
            }
            let values = sort_at_once(cx, &request)?;
            if stored_here {
                request.answer(cx, values, &mut reply);
                return Ok(Begun::Done(reply));
            }
            Ok(Begun::Sorted(values))
        })
        .await?;
    let values = match begun {
        Begun::Done(reply) => return Ok(reply),
        Begun::Sorted(values) => values,
        Begun::Loaded(request, order, elements, wanted) => {
            let sorted = sort_in_slices(coordinator, &request, order, elements, wanted).await?;
            values_of(coordinator, &request, sorted).await
        }
    };
    let mut reply = coordinator.reply();
    let Some(destination) = destination else {
        push(values, &mut reply);
        return Ok(reply);
    };
    let limits = coordinator.call(coordinator.origin().shard, |shard| shard.config.list_limits()).await;
    let mut list = List::default();
    for (number, value) in values.into_iter().enumerate() {
        list.push_back(value.bytes().unwrap_or_default(), limits);
        if (number + 1) % RUN_ELEMENTS == 0 {
            coordinator.yield_core().await;
        }
    }
    let to = destination.clone();
    let stored = coordinator.with_key(&destination, move |cx| {
        store(cx, &to, list, &mut reply);
        reply
    });
    Ok(stored.await)
}

/// The elements of a value as it was at one moment, read run by run.
enum Elements {
    List(ListSnapshot),
    Set(DictSnapshot<Box<[u8]>>),
    Zset(ZsetSnapshot),
    Loaded(std::vec::IntoIter<Box<[u8]>>),
}

impl Elements {
    /// As [`load`].
    fn of(object: &Object, request: &Request) -> (Elements, Range<usize>) {
        let len = object.len();
        let window = request.window(len);
        let direct = request.unsorted && window.len() <= RUN_ELEMENTS;
        match object {
            Object::List(list) if len > RUN_ELEMENTS && !direct && !(request.unsorted && request.descending) => {
                match request.unsorted {
                    true => (Elements::List(list.snapshot(window.start, window.len())), 0..window.len()),
                    false => (Elements::List(list.snapshot(0, len)), window),
                }
            }
            Object::Set(set) if len > RUN_ELEMENTS && set.snapshot().is_some() => {
                (Elements::Set(set.snapshot().expect("there is one")), window)
            }
            Object::Zset(zset) if len > RUN_ELEMENTS && !direct => match (request.unsorted, request.descending) {
                (false, _) => (Elements::Zset(zset.snapshot(0, false, len)), window),
                (true, false) => (Elements::Zset(zset.snapshot(window.start, false, window.len())), 0..window.len()),
                // No rank lies behind the last, and `direct` has taken what is empty.
                (true, true) => {
                    let first = len - 1 - window.start;
                    (Elements::Zset(zset.snapshot(first, true, window.len())), 0..window.len())
                }
            },
            _ => {
                let (elements, wanted) = load(object, request);
                (Elements::Loaded(elements.into_iter()), wanted)
            }
        }
    }

    /// The next ones; none if these were all.
    fn next_run(&mut self) -> Vec<Box<[u8]>> {
        let mut run = Vec::with_capacity(RUN_ELEMENTS);
        match self {
            Elements::List(snapshot) => drop(snapshot.read_on(|item| {
                run.push(item.to_vec().into());
                run.len() < RUN_ELEMENTS
            })),
            Elements::Set(snapshot) => drop(snapshot.read_on(|member| {
                run.push(member.clone());
                run.len() < RUN_ELEMENTS
            })),
            Elements::Zset(snapshot) => drop(snapshot.read_on(|member, _| {
                run.push(member.to_vec().into());
                run.len() < RUN_ELEMENTS
            })),
            Elements::Loaded(elements) => run.extend(elements.take(RUN_ELEMENTS)),
        }
        run
    }
}

/// The first of what is left of a run.
struct Head {
    ranked: Ranked,
    run: usize,
    order: Order,
}

impl Ord for Head {
    /// The heap gives out the greatest, and what comes first is wanted.
    fn cmp(&self, other: &Head) -> Ordering {
        self.order.compare(&other.ranked, &self.ranked)
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Head) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Head) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}

/// The wanted elements in order.
async fn sort_in_slices(
    coordinator: &Coordinator,
    request: &Request,
    order: Order,
    mut elements: Elements,
    wanted: Range<usize>,
) -> Result<Vec<Box<[u8]>>, CommandError> {
    let mut runs = Vec::new();
    loop {
        let run = elements.next_run();
        if run.is_empty() {
            break;
        }
        runs.push(run);
        coordinator.yield_core().await;
    }
    let mut sorted = Vec::with_capacity(wanted.len());
    if request.unsorted {
        sorted.extend(runs.into_iter().flatten().skip(wanted.start).take(wanted.len()));
        return Ok(sorted);
    }
    let mut weights = None;
    if let Some(pattern) = &request.by {
        let mut asked = Asked::new(coordinator);
        for run in &runs {
            run.iter().for_each(|element| asked.ask(0, pattern.key(element)));
            coordinator.yield_core().await;
        }
        weights = Some(asked.answers(vec![pattern.field.clone()]).await.into_iter());
    }
    let mut sources = Vec::with_capacity(runs.len());
    let mut place = 0;
    for run in runs {
        let mut ranked = Vec::with_capacity(run.len());
        for element in run {
            let weight = weights.as_mut().map(|weights| weights.next().expect("every element was weighed"));
            ranked.push(Ranked::new(order, place, element, weight)?);
            place += 1;
        }
        sources.push(order.sort(ranked, wanted.end).into_iter());
        coordinator.yield_core().await;
    }
    let mut heads = BinaryHeap::with_capacity(sources.len());
    for (run, source) in sources.iter_mut().enumerate() {
        heads.extend(source.next().map(|ranked| Head { ranked, run, order }));
    }
    for place in 0..wanted.end {
        let Some(Head { ranked, run, .. }) = heads.pop() else { break };
        heads.extend(sources[run].next().map(|ranked| Head { ranked, run, order }));
        if place >= wanted.start {
            sorted.push(ranked.element);
        }
        if (place + 1) % RUN_ELEMENTS == 0 {
            coordinator.yield_core().await;
        }
    }
    Ok(sorted)
}

/// What GET replies with for elements that are anywhere; the elements themselves without GET.
async fn values_of(coordinator: &Coordinator, request: &Request, sorted: Vec<Box<[u8]>>) -> Vec<Found> {
    if request.gets.is_empty() {
        return sorted.into_iter().map(Found::Bytes).collect();
    }
    let mut asked = Asked::new(coordinator);
    for (number, element) in sorted.iter().enumerate() {
        for (get, what) in request.gets.iter().enumerate() {
            match what {
                Get::Key(pattern) => asked.ask(get, pattern.key(element)),
                Get::Element => asked.know(Found::Bytes(element.clone())),
                Get::Nothing => asked.know(Found::Nothing),
            }
        }
        if (number + 1) % RUN_ELEMENTS == 0 {
            coordinator.yield_core().await;
        }
    }
    let field = |get: &Get| if let Get::Key(pattern) = get { pattern.field.clone() } else { None };
    asked.answers(request.gets.iter().map(field).collect()).await
}

/// Keys that are looked up with one call to each shard.
struct Asked<'c> {
    coordinator: &'c Coordinator,
    /// By shard: the number of the answer, that of the pattern, and the key.
    by_shard: Vec<Vec<(usize, usize, Vec<u8>)>>,
    answers: Vec<Found>,
}

impl Asked<'_> {
    fn new(coordinator: &Coordinator) -> Asked<'_> {
        let shards = usize::from(coordinator.slots().shards());
        Asked { coordinator, by_shard: vec![Vec::new(); shards], answers: Vec::new() }
    }

    fn ask(&mut self, pattern: usize, key: Vec<u8>) {
        let shard = usize::from(self.coordinator.slots().shard_of(&key).0);
        self.by_shard[shard].push((self.answers.len(), pattern, key));
        self.answers.push(Found::Nothing);
    }

    fn know(&mut self, answer: Found) {
        self.answers.push(answer);
    }

    /// All answers, in the order in which they were asked for. `fields` are those of the patterns.
    async fn answers(mut self, fields: Vec<Option<Vec<u8>>>) -> Vec<Found> {
        let fields = Arc::new(fields);
        let shards = self.coordinator.slots().all().zip(self.by_shard).filter(|(_, keys)| !keys.is_empty());
        let calls: Vec<_> = shards
            .map(|(shard, keys)| {
                let fields = Arc::clone(&fields);
                self.coordinator.with_data(shard, move |cx| {
                    let found = |(number, pattern, key): (usize, usize, Vec<u8>)| {
                        (number, look_up(cx, &key, fields[pattern].as_deref()))
                    };
                    keys.into_iter().map(found).collect::<Vec<_>>()
                })
            })
            .collect();
        for call in calls {
            for (number, found) in call.await {
                self.answers[number] = found;
            }
        }
        self.answers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_names_a_key_or_a_field() {
        let pattern = |before: &str, after: &str, field: Option<&str>| {
            let bytes = |text: &str| text.as_bytes().to_vec();
            Some(Pattern { before: bytes(before), after: bytes(after), field: field.map(bytes) })
        };
        for (text, expected) in [
            ("w_*", pattern("w_", "", None)),
            ("*", pattern("", "", None)),
            ("a*b*c", pattern("a", "b*c", None)),
            ("h_*->f", pattern("h_", "", Some("f"))),
            ("h_*x->f->g", pattern("h_", "x", Some("f->g"))),
            ("h_*->", pattern("h_", "->", None)),
            ("h->*", pattern("h->", "", None)),
            ("nosort", None),
            ("#", None),
            ("", None),
            ("a\0*", None),
        ] {
            assert_eq!(Pattern::parse(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!(Pattern::parse(b"w_*_x").unwrap().key(b"17"), b"w_17_x");
    }

    #[test]
    fn any_limit_is_a_window_of_the_elements() {
        const ALL: [i64; 9] = [0, 1, -1, 5, 9, 10, i64::MAX, i64::MIN, i64::MAX - 1];
        let args = OwnedArgs::from_slices(&["sort", "k"]);
        let mut request = Request::parse(args.as_args(), true).unwrap();
        for len in [0, 1, 10] {
            for offset in ALL {
                for count in ALL {
                    (request.offset, request.count) = (offset, count);
                    let window = request.window(len);
                    let first = usize::try_from(offset.max(0)).unwrap();
                    let most = usize::try_from(count).unwrap_or(usize::MAX);
                    assert!(
                        (0..len).skip(first).take(most).eq(window.clone()),
                        "{offset} {count} of {len}: {window:?}"
                    );
                }
            }
        }
    }
}
