//! Operations and what must come before what: a graph in which every cycle is a contradiction.
//!
//! Nodes are operations, and waypoints: to say that each of n operations precedes each of m others takes n times m edges, and
//! through a chain of waypoints n plus m. A step over waypoints has one edge that says why and else `Chain` edges.
//!
//! ```text
//!   done first ─┐                 ┌─> began after both        op ──chain──> point ──chain──> point ──time──> op
//!               ├─> point ─> point
//!   done second ──────┘           └─> …
//! ```

use std::collections::VecDeque;

/// Why one operation must come before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The other wrote the next version.
    Ww,
    /// The other saw this one's version.
    Wr,
    /// The other replaced the version that this one saw.
    Rw,
    /// As `Ww`, where the order of the versions is known by the clock alone.
    WwByTime,
    /// As `Rw`, likewise.
    RwByTime,
    /// It was over before the other began.
    Time,
    /// Towards, between or away from waypoints.
    Chain,
}

#[derive(Clone, Copy, Debug)]
struct Edge {
    from: u32,
    to: u32,
    why: Why,
}

/// The edges, in any order, while the graph is built.
pub struct Builder {
    nodes: u32,
    edges: Vec<Edge>,
}

/// The edges by their origin.
pub struct Graph {
    /// Where a node's edges begin; one more than there are nodes.
    starts: Vec<u32>,
    targets: Vec<(u32, Why)>,
}

impl Builder {
    /// Nodes `0..operations` are operations.
    pub fn new(operations: usize) -> Builder {
        Builder { nodes: u32::try_from(operations).expect("fewer than four billion operations"), edges: Vec::new() }
    }

    /// A new waypoint.
    pub fn waypoint(&mut self) -> u32 {
        self.nodes += 1;
        self.nodes - 1
    }

    /// What an operation does to itself says nothing about order, and is left out.
    pub fn edge(&mut self, from: u32, to: u32, why: Why) {
        if from != to {
            self.edges.push(Edge { from, to, why });
        }
    }

    pub fn build(self) -> Graph {
        let mut starts = vec![0u32; self.nodes as usize + 1];
        for edge in &self.edges {
            starts[edge.from as usize + 1] += 1;
        }
        for node in 0..self.nodes as usize {
            starts[node + 1] += starts[node];
        }
        let mut next = starts.clone();
        let mut targets = vec![(0, Why::Chain); self.edges.len()];
        for edge in &self.edges {
            let at = &mut next[edge.from as usize];
            targets[*at as usize] = (edge.to, edge.why);
            *at += 1;
        }
        Graph { starts, targets }
    }
}

impl Graph {
    pub fn edges(&self) -> usize {
        self.targets.len()
    }

    fn out(&self, node: u32) -> &[(u32, Why)] {
        &self.targets[self.starts[node as usize] as usize..self.starts[node as usize + 1] as usize]
    }

    /// The strongly connected components of more than one node: every cycle lies within one of them. After Tarjan, with a stack of
    /// its own instead of recursion.
    pub fn components(&self) -> Vec<Vec<u32>> {
        const UNSEEN: u32 = u32::MAX;
        let nodes = self.starts.len() as u32 - 1;
        let mut index = vec![UNSEEN; nodes as usize];
        let mut low = vec![0u32; nodes as usize];
        let mut on_stack = vec![false; nodes as usize];
        let (mut stack, mut calls, mut found) = (Vec::new(), Vec::new(), Vec::new());
        let mut counter = 0;
        for root in 0..nodes {
            if index[root as usize] != UNSEEN {
                continue;
            }
            calls.push((root, self.starts[root as usize]));
            while let Some((node, at)) = calls.last_mut() {
                let here = *node as usize;
                if index[here] == UNSEEN {
                    (index[here], low[here]) = (counter, counter);
                    counter += 1;
                    stack.push(*node);
                    on_stack[here] = true;
                }
                if *at < self.starts[here + 1] {
                    let to = self.targets[*at as usize].0;
                    *at += 1;
                    if index[to as usize] == UNSEEN {
                        calls.push((to, self.starts[to as usize]));
                    } else if on_stack[to as usize] {
                        low[here] = low[here].min(index[to as usize]);
                    }
                    continue;
                }
                if low[here] == index[here] {
                    let from = stack.iter().rposition(|n| *n as usize == here).expect("a root is on the stack");
                    let component = stack.split_off(from);
                    component.iter().for_each(|n| on_stack[*n as usize] = false);
                    if component.len() > 1 {
                        found.push(component);
                    }
                }
                calls.pop();
                if let Some((caller, _)) = calls.last() {
                    low[*caller as usize] = low[*caller as usize].min(low[here]);
                }
            }
        }
        found
    }

    /// The shortest cycle over these edges that limited effort finds within the component: operations, each with why it precedes the
    /// next one.
    pub fn shortest_cycle(
        &self,
        component: &[u32],
        operations: u32,
        allowed: impl Fn(Why) -> bool,
    ) -> Option<Vec<(u32, Why)>> {
        const EDGES_SEEN_MAX: usize = 10_000_000;
        let nodes = self.starts.len() - 1;
        let mut is_member = vec![false; nodes];
        component.iter().for_each(|node| is_member[*node as usize] = true);
        let mut starts: Vec<u32> = component.iter().copied().filter(|node| *node < operations).collect();
        starts.sort_unstable();
        // How each node was reached, and in the search from which start.
        let mut reached: Vec<(u32, Why, u32)> = vec![(0, Why::Chain, u32::MAX); nodes];
        let mut best: Option<Vec<(u32, Why)>> = None;
        let mut edges_seen = 0;
        for start in starts {
            if best.as_ref().is_some_and(|best| best.len() == 2) || edges_seen > EDGES_SEEN_MAX {
                break;
            }
            // Steps between waypoints count nothing: they go to the front.
            let mut queue = VecDeque::from([start]);
            let mut closed = false;
            while let Some(node) = queue.pop_front()
                && !closed
            {
                for (to, why) in self.out(node).iter().copied() {
                    edges_seen += 1;
                    let usable = is_member[to as usize] && (why == Why::Chain || allowed(why));
                    if !usable || reached[to as usize].2 == start {
                        continue;
                    }
                    reached[to as usize] = (node, why, start);
                    closed |= to == start;
                    if to < operations { queue.push_back(to) } else { queue.push_front(to) }
                }
            }
            if !closed {
                continue;
            }
            let mut cycle = Vec::new();
            let (mut node, mut reason) = (start, Why::Chain);
            loop {
                let (from, why, _) = reached[node as usize];
                // One edge of a step over waypoints says why.
                reason = if why == Why::Chain { reason } else { why };
                if from < operations {
                    cycle.push((from, reason));
                    reason = Why::Chain;
                }
                node = from;
                if node == start {
                    break;
                }
            }
            cycle.reverse();
            if best.as_ref().is_none_or(|best| cycle.len() < best.len()) {
                best = Some(cycle);
            }
        }
        best
    }
}
