//! Pairs of a score and a handle in order, with the number of pairs under every node: rank, selection by rank and ranges in
//! logarithmic time. What large sorted sets are ordered by.
//!
//! ```text
//!            [ first, count | first, count | … ]           inner: for each child its first pair and how many it has
//!             │               │
//!            [ scores ]      [ scores ]                    leaf: scores and handles, ascending
//!            [ handles ]     [ handles ]
//! ```
//!
//! A pair takes 12 bytes and the slack of its leaf; a skiplist node takes three to four times as much. The tree knows scores only:
//! where they are equal the caller decides, who knows the members behind the handles. All searches are by a predicate that is
//! true for the pairs in front and false for those behind ([`OrderTree::count_while`]).
//!
//! Copies share nodes until one of them changes, so a copy costs next to nothing.
//!
//! A value inside a sorted set, used on its shard's core. Invariants: pairs ascend in the caller's order; counts and firsts are
//! exact; no node but the root is empty. Absent on purpose: members.

use std::sync::Arc;

/// Pairs of a leaf.
const LEAF_MAX: usize = 128;
/// Children of an inner node.
const INNER_MAX: usize = 64;

/// A score and the handle of its member.
pub type Pair = (f64, u32);

#[derive(Clone, Default)]
struct Leaf {
    scores: Vec<f64>,
    handles: Vec<u32>,
}

#[derive(Clone)]
struct Child {
    first: Pair,
    count: usize,
    node: Arc<Node>,
}

#[derive(Clone)]
enum Node {
    Leaf(Leaf),
    Inner(Vec<Child>),
}

impl Node {
    /// Pairs of a leaf, children of an inner node.
    fn width(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.scores.len(),
            Node::Inner(children) => children.len(),
        }
    }

    fn into_child(self) -> Child {
        let (first, count) = match &self {
            Node::Leaf(leaf) => ((leaf.scores[0], leaf.handles[0]), leaf.scores.len()),
            Node::Inner(children) => (children[0].first, children.iter().map(|child| child.count).sum()),
        };
        Child { first, count, node: Arc::new(self) }
    }
}

impl Child {
    /// What changed below is taken over.
    fn refresh(&mut self) {
        match &*self.node {
            Node::Leaf(leaf) => {
                self.count = leaf.scores.len();
                if self.count > 0 {
                    self.first = (leaf.scores[0], leaf.handles[0]);
                }
            }
            Node::Inner(children) => {
                self.count = children.iter().map(|child| child.count).sum();
                if let Some(child) = children.first() {
                    self.first = child.first;
                }
            }
        }
    }
}

/// See the module.
#[derive(Clone)]
pub struct OrderTree {
    root: Node,
    len: usize,
}

impl Default for OrderTree {
    fn default() -> OrderTree {
        OrderTree { root: Node::Leaf(Leaf::default()), len: 0 }
    }
}

impl OrderTree {
    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many pairs at the front satisfy `in_front`, which must not become true again once it was false.
    pub fn count_while(&self, mut in_front: impl FnMut(Pair) -> bool) -> usize {
        let mut node = &self.root;
        let mut before = 0;
        loop {
            match node {
                Node::Leaf(leaf) => {
                    let (mut low, mut high) = (0, leaf.scores.len());
                    while low < high {
                        let middle = usize::midpoint(low, high);
                        if in_front((leaf.scores[middle], leaf.handles[middle])) {
                            low = middle + 1;
                        } else {
                            high = middle;
                        }
                    }
                    return before + low;
                }
                Node::Inner(children) => {
                    let at = child_of(children, &mut in_front);
                    before += children[..at].iter().map(|child| child.count).sum::<usize>();
                    node = &children[at].node;
                }
            }
        }
    }

    /// Inserts a pair behind those for which `in_front` is true.
    pub fn insert(&mut self, pair: Pair, mut in_front: impl FnMut(Pair) -> bool) {
        self.len += 1;
        if let Some(right) = insert(&mut self.root, pair, &mut in_front) {
            let left = std::mem::replace(&mut self.root, Node::Leaf(Leaf::default()));
            self.root = Node::Inner(vec![left.into_child(), right.into_child()]);
        }
    }

    /// Removes the pair of a rank, which must be there.
    pub fn remove_at(&mut self, rank: usize) -> Pair {
        assert!(rank < self.len, "a rank is below the length");
        self.len -= 1;
        let pair = remove(&mut self.root, rank);
        if let Node::Inner(children) = &mut self.root
            && children.len() == 1
        {
            let only = children.pop().expect("there is one");
            self.root = Arc::unwrap_or_clone(only.node);
        }
        pair
    }

    /// Takes `count` pairs from a rank on, which must be there, out as a tree of their own. Nodes that lie within the range go as they
    /// are. Leaves of the new tree are not equally deep: it is to be read and freed, not to be changed.
    pub fn cut(&mut self, rank: usize, count: usize) -> OrderTree {
        assert!(rank + count <= self.len, "a range is within the length");
        let mut out = Vec::new();
        cut(&mut self.root, rank, count, &mut out);
        self.len -= count;
        while let Node::Inner(children) = &mut self.root
            && children.len() <= 1
        {
            self.root = children.pop().map_or(Node::Leaf(Leaf::default()), |only| Arc::unwrap_or_clone(only.node));
        }
        OrderTree { root: Node::Inner(out), len: count }
    }

    /// Gives every pair the handle that `change` gives for its own, in order. Places in the order must not depend on handles.
    pub fn change_handles(&mut self, mut change: impl FnMut(u32) -> u32) {
        change_handles(&mut self.root, &mut change);
    }

    /// Gives the pair of a rank, which must be there, another handle. Its place in the order must not depend on it.
    pub fn set_handle(&mut self, rank: usize, handle: u32) {
        set_handle(&mut self.root, rank, handle);
    }

    /// The pair of a rank, which must be there.
    pub fn get(&self, mut rank: usize) -> Pair {
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(leaf) => return (leaf.scores[rank], leaf.handles[rank]),
                Node::Inner(children) => {
                    let child = children.iter().find(|child| match rank.checked_sub(child.count) {
                        None => true,
                        Some(rest) => {
                            rank = rest;
                            false
                        }
                    });
                    node = &child.expect("a rank is below the length").node;
                }
            }
        }
    }

    /// Shows pairs from a rank on, towards the end or the front, until `visit` returns false.
    pub fn walk(&self, rank: usize, backwards: bool, mut visit: impl FnMut(Pair) -> bool) {
        if rank < self.len {
            walk(&self.root, rank, backwards, &mut visit);
        }
    }

    /// Bytes allocated, estimated from the fill of some leaves.
    pub fn allocated_bytes(&self) -> usize {
        // Leaves are half full at least and by three quarters as a rule.
        size_of::<OrderTree>()
            + self.len * 12 * 4 / 3
            + self.len / (LEAF_MAX * 3 / 4) * (size_of::<Child>() + size_of::<Node>())
    }

    /// Frees about so many pairs of a tree that nobody will read again; true while there are more.
    pub fn free_some(&mut self, pairs_max: usize) -> bool {
        let mut freed = 0;
        while freed < pairs_max {
            let Node::Inner(children) = &mut self.root else {
                *self = OrderTree::default();
                return false;
            };
            match children.pop() {
                None => {
                    *self = OrderTree::default();
                    return false;
                }
                Some(child) => match Arc::try_unwrap(child.node) {
                    // Its children take its place: nothing is freed with more below it than a leaf.
                    Ok(Node::Inner(below)) => children.extend(below),
                    Ok(Node::Leaf(leaf)) => freed += leaf.scores.len(),
                    // A copy has it, too.
                    Err(_) => freed += 1,
                },
            }
        }
        true
    }
}

/// The child in which the border between front and back lies.
fn child_of(children: &[Child], in_front: &mut impl FnMut(Pair) -> bool) -> usize {
    let (mut low, mut high) = (1, children.len());
    while low < high {
        let middle = usize::midpoint(low, high);
        if in_front(children[middle].first) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low - 1
}

/// Inserts below `node`; what is returned goes to its right.
fn insert(node: &mut Node, pair: Pair, in_front: &mut impl FnMut(Pair) -> bool) -> Option<Node> {
    match node {
        Node::Leaf(leaf) => {
            let (mut low, mut high) = (0, leaf.scores.len());
            while low < high {
                let middle = usize::midpoint(low, high);
                if in_front((leaf.scores[middle], leaf.handles[middle])) {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            let mut right = None;
            if leaf.scores.len() == LEAF_MAX {
                // What only grows at its end leaves full leaves behind.
                let at = if low == LEAF_MAX { LEAF_MAX - 1 } else { LEAF_MAX / 2 };
                right = Some(Leaf { scores: leaf.scores.split_off(at), handles: leaf.handles.split_off(at) });
            }
            let (place, low) = match &mut right {
                Some(right) if low > leaf.scores.len() => (right, low - leaf.scores.len()),
                _ => (leaf, low),
            };
            if place.scores.len() == place.scores.capacity() {
                let more = (place.scores.len() / 4).clamp(4, LEAF_MAX);
                place.scores.reserve_exact(more);
                place.handles.reserve_exact(more);
            }
            place.scores.insert(low, pair.0);
            place.handles.insert(low, pair.1);
            right.map(Node::Leaf)
        }
        Node::Inner(children) => {
            let at = child_of(children, in_front);
            let split = insert(Arc::make_mut(&mut children[at].node), pair, in_front);
            children[at].refresh();
            let right = split?;
            children.insert(at + 1, right.into_child());
            if children.len() <= INNER_MAX {
                return None;
            }
            let border = if at + 2 == children.len() { children.len() - 2 } else { children.len() / 2 };
            Some(Node::Inner(children.split_off(border)))
        }
    }
}

fn remove(node: &mut Node, mut rank: usize) -> Pair {
    match node {
        Node::Leaf(leaf) => {
            let pair = (leaf.scores.remove(rank), leaf.handles.remove(rank));
            if leaf.scores.len() * 2 < leaf.scores.capacity() && leaf.scores.capacity() > 16 {
                leaf.scores.shrink_to_fit();
                leaf.handles.shrink_to_fit();
            }
            pair
        }
        Node::Inner(children) => {
            let mut at = 0;
            while rank >= children[at].count {
                rank -= children[at].count;
                at += 1;
            }
            let pair = remove(Arc::make_mut(&mut children[at].node), rank);
            children[at].refresh();
            if children[at].count == 0 {
                children.remove(at);
            } else if children.len() > 1 {
                let left = at.saturating_sub(usize::from(at + 1 == children.len()));
                join(children, left);
            }
            pair
        }
    }
}

/// Moves a range of pairs to `out`, as few nodes as there can be. No node becomes empty by that but the root, if all of it goes.
fn cut(node: &mut Node, rank: usize, count: usize, out: &mut Vec<Child>) {
    if count == 0 {
        return;
    }
    match node {
        Node::Leaf(leaf) => {
            let scores = leaf.scores.drain(rank..rank + count).collect();
            let handles = leaf.handles.drain(rank..rank + count).collect();
            leaf.scores.shrink_to_fit();
            leaf.handles.shrink_to_fit();
            out.push(Node::Leaf(Leaf { scores, handles }).into_child());
        }
        Node::Inner(children) => {
            let (mut at, mut first, end) = (0, 0, rank + count);
            while at < children.len() && first < end {
                let child = &mut children[at];
                let (from, until) = (rank.max(first), end.min(first + child.count));
                first += child.count;
                if from >= until {
                    at += 1;
                } else if until - from == child.count {
                    // Its neighbours close up at the end, all at once.
                    let whole = children[at..].iter().scan(first - children[at].count, |before, child| {
                        *before += child.count;
                        Some(*before)
                    });
                    let whole = whole.take_while(|until| *until <= end).count();
                    first += children[at + 1..at + whole].iter().map(|child| child.count).sum::<usize>();
                    out.extend(children.drain(at..at + whole));
                } else {
                    let before = first - child.count;
                    cut(Arc::make_mut(&mut child.node), from - before, until - from, out);
                    child.refresh();
                    at += 1;
                }
            }
            for left in (at.saturating_sub(2)..=at).rev() {
                if left + 1 < children.len() {
                    join(children, left);
                }
            }
        }
    }
}

fn change_handles(node: &mut Node, change: &mut impl FnMut(u32) -> u32) {
    match node {
        Node::Leaf(leaf) => leaf.handles.iter_mut().for_each(|handle| *handle = change(*handle)),
        Node::Inner(children) => {
            for child in children {
                change_handles(Arc::make_mut(&mut child.node), change);
                child.refresh();
            }
        }
    }
}

fn set_handle(node: &mut Node, mut rank: usize, handle: u32) {
    match node {
        Node::Leaf(leaf) => leaf.handles[rank] = handle,
        Node::Inner(children) => {
            let mut at = 0;
            while rank >= children[at].count {
                rank -= children[at].count;
                at += 1;
            }
            set_handle(Arc::make_mut(&mut children[at].node), rank, handle);
            children[at].refresh();
        }
    }
}

/// Joins a child with the one to its right if both together are small.
fn join(children: &mut Vec<Child>, left: usize) {
    let max = match &*children[left].node {
        Node::Leaf(_) => LEAF_MAX / 2,
        Node::Inner(_) => INNER_MAX / 2,
    };
    if children[left].node.width() + children[left + 1].node.width() > max {
        return;
    }
    let right = children.remove(left + 1);
    match (Arc::make_mut(&mut children[left].node), Arc::unwrap_or_clone(right.node)) {
        (Node::Leaf(into), Node::Leaf(from)) => {
            into.scores.extend(from.scores);
            into.handles.extend(from.handles);
        }
        (Node::Inner(into), Node::Inner(from)) => into.extend(from),
        (Node::Leaf(_), Node::Inner(_)) | (Node::Inner(_), Node::Leaf(_)) => {
            unreachable!("all leaves are equally deep")
        }
    }
    children[left].refresh();
}

fn walk(node: &Node, mut rank: usize, backwards: bool, visit: &mut impl FnMut(Pair) -> bool) -> bool {
    match node {
        Node::Leaf(leaf) => {
            let mut show = |at: usize| visit((leaf.scores[at], leaf.handles[at]));
            if backwards { (0..=rank).rev().all(&mut show) } else { (rank..leaf.scores.len()).all(&mut show) }
        }
        Node::Inner(children) => {
            let mut at = 0;
            while rank >= children[at].count {
                rank -= children[at].count;
                at += 1;
            }
            if !walk(&children[at].node, rank, backwards, visit) {
                return false;
            }
            if backwards {
                children[..at].iter().rev().all(|child| walk(&child.node, child.count - 1, true, visit))
            } else {
                children[at + 1..].iter().all(|child| walk(&child.node, 0, false, visit))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    fn check_node(node: &Node, root: bool) -> usize {
        match node {
            Node::Leaf(leaf) => {
                assert!(root || !leaf.scores.is_empty());
                assert!(leaf.scores.len() <= LEAF_MAX && leaf.scores.len() == leaf.handles.len());
                leaf.scores.len()
            }
            Node::Inner(children) => {
                assert!(!children.is_empty() && children.len() <= INNER_MAX);
                for child in children {
                    assert_eq!(check_node(&child.node, false), child.count);
                    let mut exact = child.clone();
                    exact.refresh();
                    assert_eq!((exact.first, exact.count), (child.first, child.count));
                }
                children.iter().map(|child| child.count).sum()
            }
        }
    }

    #[test]
    fn random_changes_leave_what_they_leave_in_a_vector() {
        let seed = 8;
        println!("seed {seed}");
        let mut rng = Rng::seed(seed);
        for (range, ascending) in [(50, false), (100_000, false), (3, false), (0, true)] {
            let (mut tree, mut model) = (OrderTree::default(), Vec::<Pair>::new());
            for step in 0..14_000u32 {
                let grows = rng.below(10) < if step < 9000 { 9 } else { 2 };
                if grows || model.is_empty() {
                    let score = if ascending { f64::from(step) } else { rng.range(-range..=range) as f64 };
                    let pair = (score, step);
                    let less = |other: Pair| other.0 < score || (other.0 == score && other.1 < step);
                    let at = model.partition_point(|other| less(*other));
                    assert_eq!(tree.count_while(less), at);
                    tree.insert(pair, less);
                    model.insert(at, pair);
                } else {
                    let rank = rng.below(model.len() as u64) as usize;
                    assert_eq!(tree.get(rank), model[rank]);
                    assert_eq!(tree.remove_at(rank), model.remove(rank));
                }
                if step % 700 == 0 && !model.is_empty() {
                    let rank = rng.below(model.len() as u64) as usize;
                    let count = rng.below((model.len() - rank) as u64 / 3 + 1) as usize;
                    let (gone, mut seen) = (tree.cut(rank, count), Vec::new());
                    gone.walk(0, false, |pair| {
                        seen.push(pair);
                        true
                    });
                    assert_eq!(seen, model.drain(rank..rank + count).collect::<Vec<_>>());
                    tree.change_handles(|handle| handle + 1);
                    model.iter_mut().for_each(|pair| pair.1 += 1);
                    assert_eq!(check_node(&tree.root, true), model.len());
                }
                if step % 1500 == 0 {
                    assert_eq!(check_node(&tree.root, true), model.len());
                    let from = rng.below(model.len() as u64 + 1) as usize;
                    let mut seen = Vec::new();
                    tree.walk(from, false, |pair| {
                        seen.push(pair);
                        seen.len() < 500
                    });
                    assert!(model[from..].iter().take(500).eq(&seen));
                    seen.clear();
                    tree.walk(from, true, |pair| {
                        seen.push(pair);
                        true
                    });
                    assert!(from == model.len() || model[..=from].iter().rev().eq(&seen));
                }
            }
            let mut slices = 1;
            while tree.free_some(1000) {
                slices += 1;
            }
            assert!(slices <= model.len() / 900 + 2);
        }
    }

    #[test]
    fn what_is_cut_out_whole_leaves_an_empty_tree() {
        for pairs in [1, 100, 200, 50_000u32] {
            let mut tree = OrderTree::default();
            (0..pairs).for_each(|n| tree.insert((f64::from(n), n), |_| true));
            assert_eq!(tree.cut(0, pairs as usize).len(), pairs as usize);
            assert!(tree.is_empty());
            tree.insert((1.0, 1), |_| true);
            assert_eq!((tree.get(0), check_node(&tree.root, true)), ((1.0, 1), 1));
        }
    }

    #[test]
    fn what_is_appended_fills_its_leaves() {
        let mut tree = OrderTree::default();
        (0..100_000u32).for_each(|n| tree.insert((f64::from(n), n), |_| true));
        fn leaves(node: &Node) -> usize {
            match node {
                Node::Leaf(_) => 1,
                Node::Inner(children) => children.iter().map(|child| leaves(&child.node)).sum(),
            }
        }
        assert!(leaves(&tree.root) < 100_000 / 120, "{}", leaves(&tree.root));
    }
}
