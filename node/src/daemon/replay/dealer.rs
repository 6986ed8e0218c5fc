//! Which event goes where, and when: one author, one node; one author, one event at a time.
//!
//! Contract: authors are dealt to nodes round robin in the order of their first event, so the same file and the same
//! list of nodes give the same deal; an author's events leave in the order they came.

use std::collections::{BTreeMap, VecDeque};

/// Events under way at one node, at most.
pub const UNDER_WAY_MAX: usize = 64;
/// Events read and not yet sent, at most.
pub const WAITING_MAX: usize = 8_192;
/// Their bytes, at most; one more event always goes in.
pub const WAITING_BYTES_MAX: usize = 64 << 20;

/// An event that may be sent now.
#[derive(Debug)]
pub struct Deal<T> {
    /// To which node.
    pub node: usize,
    /// Whose it is: given back when it is done.
    pub author: usize,
    /// What to send.
    pub item: T,
}

/// Deals events of type `T`.
pub struct Dealer<T> {
    authors: Vec<Author<T>>,
    by_name: BTreeMap<String, usize>,
    nodes: Vec<Node>,
    waiting: usize,
    waiting_bytes: usize,
}

struct Author<T> {
    node: usize,
    events: VecDeque<(usize, T)>,
    under_way: bool,
}

#[derive(Clone, Default)]
struct Node {
    under_way: usize,
    /// Authors with an event waiting and none under way.
    ready: VecDeque<usize>,
}

impl<T> Dealer<T> {
    /// Deals to so many nodes.
    pub fn new(nodes: usize) -> Dealer<T> {
        assert!(nodes > 0, "there is nobody to deal to");
        let nodes = vec![Node::default(); nodes];
        Dealer {
            authors: Vec::new(),
            by_name: BTreeMap::new(),
            nodes,
            waiting: 0,
            waiting_bytes: 0,
        }
    }

    /// Whether another event may be taken in.
    pub fn has_room(&self) -> bool {
        self.waiting < WAITING_MAX && self.waiting_bytes < WAITING_BYTES_MAX
    }

    /// The node that an author's events go to.
    pub fn node_of(&mut self, author: &str) -> usize {
        let index = self.author(author);
        self.authors[index].node
    }

    fn author(&mut self, name: &str) -> usize {
        if let Some(&index) = self.by_name.get(name) {
            return index;
        }
        let index = self.authors.len();
        let node = index % self.nodes.len();
        self.authors.push(Author {
            node,
            events: VecDeque::new(),
            under_way: false,
        });
        self.by_name.insert(name.to_string(), index);
        index
    }

    /// Takes in an author's next event.
    pub fn take(&mut self, author: &str, bytes: usize, item: T) {
        let index = self.author(author);
        let author = &mut self.authors[index];
        author.events.push_back((bytes, item));
        self.waiting += 1;
        self.waiting_bytes += bytes;
        if !author.under_way && author.events.len() == 1 {
            self.nodes[author.node].ready.push_back(index);
        }
    }

    /// An event that may be sent now, if there is one.
    pub fn deal(&mut self) -> Option<Deal<T>> {
        let free = |node: &Node| node.under_way < UNDER_WAY_MAX && !node.ready.is_empty();
        let node = self.nodes.iter().position(free)?;
        let author = self.nodes[node].ready.pop_front()?;
        let (bytes, item) = self.authors[author].events.pop_front()?;
        self.authors[author].under_way = true;
        self.nodes[node].under_way += 1;
        self.waiting -= 1;
        self.waiting_bytes -= bytes;
        Some(Deal { node, author, item })
    }

    /// An author's event is done: the next one may go.
    pub fn done(&mut self, author: usize) {
        let index = author;
        let author = &mut self.authors[index];
        assert!(author.under_way, "author {index} has nothing under way");
        author.under_way = false;
        self.nodes[author.node].under_way -= 1;
        if !author.events.is_empty() {
            self.nodes[author.node].ready.push_back(index);
        }
    }

    /// Whether nothing waits and nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.waiting == 0 && self.nodes.iter().all(|node| node.under_way == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_author_goes_to_one_node_one_event_at_a_time() {
        let mut dealer = Dealer::new(2);
        for (i, author) in ["a", "b", "a", "c", "b", "a"].iter().enumerate() {
            dealer.take(author, 1, i);
        }
        let mut first: Vec<(usize, usize)> = Vec::new();
        while let Some(deal) = dealer.deal() {
            first.push((deal.node, deal.item));
        }
        // a and c to node 0, b to node 1; the second event of each waits for the first.
        assert_eq!(first, [(0, 0), (0, 3), (1, 1)]);
        dealer.done(0);
        let next = dealer.deal().unwrap();
        assert_eq!((next.node, next.author, next.item), (0, 0, 2));
        assert!(dealer.deal().is_none());
        dealer.done(1);
        dealer.done(2);
        assert_eq!(dealer.deal().unwrap().item, 4);
        dealer.done(0);
        assert_eq!(dealer.deal().unwrap().item, 5);
        assert!(!dealer.is_idle());
        dealer.done(0);
        dealer.done(1);
        assert!(dealer.is_idle());
    }

    #[test]
    fn what_is_under_way_and_what_waits_is_bounded() {
        let mut dealer = Dealer::new(1);
        let mut taken = 0;
        while dealer.has_room() {
            dealer.take(&format!("author {taken}"), 1, taken);
            taken += 1;
        }
        assert_eq!(taken, WAITING_MAX);
        assert_eq!(std::iter::from_fn(|| dealer.deal()).count(), UNDER_WAY_MAX);
        assert!(dealer.has_room());
        dealer.take("large", WAITING_BYTES_MAX, 0);
        assert!(!dealer.has_room());
    }
}
