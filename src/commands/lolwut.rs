//! LOLWUT: a picture. Ours is the ring that the server is named after, cut into shards of different grain and drawn in dots.
//!
//! Each cell of text is a Braille pattern of two by four dots, so a small ring has a fine edge. The picture is a function of
//! the shard's random numbers; no two are alike.

use std::f64::consts::TAU;

use super::docs::Group;
use super::server::REDIS_VERSION;
use super::table::{Flags, Row, Run, SessionCx};
use crate::base::num;
use crate::base::rng::Rng;
use crate::resp::{Args, CommandError, Reply};

/// See the module.
pub const ROWS: &[Row] = &[Row {
    name: "lolwut",
    usage: "[VERSION version]",
    summary: "Draws a ring, and tells the version.",
    since: "5.0.0",
    group: Group::Server,
    arity: -1,
    flags: Flags::READONLY.and(Flags::FAST),
    run: Run::Session(lolwut),
    ..Row::DEFAULT
}];

fn lolwut(cx: &mut SessionCx<'_>, args: Args<'_>, reply: &mut Reply) -> Result<(), CommandError> {
    if args.len() >= 3 && args.get(1).eq_ignore_ascii_case(b"VERSION") {
        // Older pictures are Redis's own; any version gets ours.
        num::parse_i64(args.get(2)).ok_or(CommandError::NotAnInteger)?;
    }
    let mut text = ring(&mut cx.shard.rng);
    text += &format!(
        "\nA ring of shards, one for each core.\nRedis ver. {REDIS_VERSION}, Annulus ver. {}\n",
        env!("CARGO_PKG_VERSION")
    );
    reply.verbatim("txt", text.as_bytes());
    Ok(())
}

/// Cells of the picture.
const COLUMNS: usize = 44;
const ROWS_OF_TEXT: usize = 22;
/// Dots of the picture: two by four in a cell, which makes them square in most fonts.
const DOTS_WIDE: usize = COLUMNS * 2;
const DOTS_HIGH: usize = ROWS_OF_TEXT * 4;

struct Canvas {
    dots: Vec<bool>,
}

impl Canvas {
    fn set(&mut self, x: f64, y: f64) {
        let (x, y) = (x.round(), y.round());
        if x >= 0.0 && y >= 0.0 && (x as usize) < DOTS_WIDE && (y as usize) < DOTS_HIGH {
            self.dots[y as usize * DOTS_WIDE + x as usize] = true;
        }
    }

    /// The Braille pattern of one cell. Unicode numbers the dots of the upper three rows by column, the lowest row last.
    fn cell(&self, column: usize, row: usize) -> char {
        const BITS: [[u32; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
        let mut pattern = 0;
        for (dy, bits) in BITS.iter().enumerate() {
            for (dx, bit) in bits.iter().enumerate() {
                if self.dots[(row * 4 + dy) * DOTS_WIDE + column * 2 + dx] {
                    pattern |= bit;
                }
            }
        }
        char::from_u32(0x2800 + pattern).expect("all 256 patterns are characters")
    }
}

fn ring(rng: &mut Rng) -> String {
    let mut canvas = Canvas { dots: vec![false; DOTS_WIDE * DOTS_HIGH] };
    let center = (DOTS_WIDE as f64 / 2.0 - 0.5, DOTS_HIGH as f64 / 2.0 - 0.5);
    let outer = DOTS_HIGH as f64 / 2.0 - 1.0;
    let inner = outer * (0.38 + 0.2 * rng.unit_f64());
    let shards = 3 + rng.below(6);
    let turn = rng.unit_f64() * TAU;
    let mut plot = |radius: f64, angle: f64| {
        canvas.set(center.0 + radius * angle.cos(), center.1 + radius * angle.sin());
    };
    for shard in 0..shards {
        let from = turn + TAU * shard as f64 / shards as f64;
        // A gap between neighbours, wide enough to be seen at the inner edge.
        let (from, to) = (from + 0.05, from + TAU / shards as f64 - 0.05);
        // The edges are lines; what lies between is sand, finer or coarser from shard to shard.
        let steps = 400;
        for step in 0..=steps {
            let angle = from + (to - from) * f64::from(step) / f64::from(steps);
            plot(outer, angle);
            plot(inner, angle);
        }
        for step in 0..=100 {
            let radius = inner + (outer - inner) * f64::from(step) / 100.0;
            plot(radius, from);
            plot(radius, to);
        }
        let grains = 40 + rng.below(700);
        // The density leans towards one edge.
        let lean = 0.4 + 1.6 * rng.unit_f64();
        for _ in 0..grains {
            let depth = rng.unit_f64().powf(lean);
            plot(inner + (outer - inner) * depth, from + (to - from) * rng.unit_f64());
        }
    }
    let mut text = String::with_capacity((COLUMNS * 3 + 1) * ROWS_OF_TEXT);
    for row in 0..ROWS_OF_TEXT {
        text.extend((0..COLUMNS).map(|column| canvas.cell(column, row)));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_is_a_ring() {
        for seed in 0..50 {
            let picture = ring(&mut Rng::seed(seed));
            let lines: Vec<Vec<char>> = picture.lines().map(|l| l.chars().collect()).collect();
            assert_eq!(lines.len(), ROWS_OF_TEXT, "seed {seed}");
            assert!(lines.iter().all(|l| l.len() == COLUMNS), "seed {seed}");
            let blank = '\u{2800}';
            assert_eq!(lines[ROWS_OF_TEXT / 2][COLUMNS / 2], blank, "seed {seed}: the middle is empty");
            assert_eq!(lines[0][0], blank, "seed {seed}: the corner is empty");
            assert!(picture.chars().filter(|c| *c != blank && *c != '\n').count() > 200, "seed {seed}");
        }
    }

    #[test]
    fn equal_seeds_draw_equal_rings() {
        assert_eq!(ring(&mut Rng::seed(7)), ring(&mut Rng::seed(7)));
        assert_ne!(ring(&mut Rng::seed(7)), ring(&mut Rng::seed(8)));
    }
}
