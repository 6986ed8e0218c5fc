//! Clients of carts, and what must hold of what they hear.
//!
//! Every addition to a line has a quantity of its own, four times that of the one before: so what a line holds says which
//! additions are in it, and whether one is in it twice.
//!
//! What must hold: an addition that was answered is there in the end, at every node, unless a removal took it that its node had
//! seen it by; what an answered removal took is gone; what was said to have changed nothing has changed nothing; and a session
//! never sees less than it has seen.

use std::collections::{BTreeMap, BTreeSet};

use anabranch::Function;
use anabranch_sim::app::{Answered, Application, Ask, Client, Cluster};

use super::Fate;
use super::cart::{CartError, Contents, Line};

/// A cart holds at most a thousand of a product: so many additions fit, each counted once.
const ADDITIONS_MAX: usize = 5;
const CARTS: [&str; 5] = ["alice", "bob", "carol", "dave", "erin"];
const PRODUCTS: [&str; 5] = ["boots", "hat", "scarf", "tent", "umbrella"];

/// A line's cart and product.
type Place = (&'static str, &'static str);

#[derive(Clone, Debug)]
struct Addition {
    asked_at: u64,
    fate: Fate,
}

/// Something that takes out of a line what its node sees there.
#[derive(Clone, Debug)]
struct Removal {
    client: usize,
    /// When it was answered, if it was.
    answered_at: Option<u64>,
    /// What it took, where that is known.
    took: Option<BTreeSet<usize>>,
}

/// What a client's session has seen there, and what it has seen gone.
#[derive(Clone, Debug, Default)]
struct Session {
    there: BTreeMap<Place, BTreeSet<usize>>,
    gone: BTreeMap<Place, BTreeSet<usize>>,
    is_stale: bool,
}

/// What a client has asked.
#[derive(Clone, Debug)]
enum Asked {
    Add(Place, usize),
    Remove(Place),
    CheckOut(&'static str),
    Show(&'static str),
    Note,
    Nonsense,
}

/// Clients that fill and empty carts, and what each cart must hold.
pub struct Carts {
    functions: fn() -> Vec<Function>,
    sends_tokens: bool,
    additions: BTreeMap<Place, Vec<Addition>>,
    removals: BTreeMap<Place, Vec<Removal>>,
    sessions: BTreeMap<usize, Session>,
    asked: BTreeMap<usize, Asked>,
}

impl Carts {
    pub fn of(functions: fn() -> Vec<Function>) -> Carts {
        Carts {
            functions,
            sends_tokens: true,
            additions: BTreeMap::new(),
            removals: BTreeMap::new(),
            sessions: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }

    /// Clients that expect to see what they have seen, and do not say what that was.
    pub fn without_tokens(self) -> Carts {
        Carts {
            sends_tokens: false,
            ..self
        }
    }

    fn invent(&mut self, client: &mut Client) -> Asked {
        let cart = *client.rng.pick(&CARTS);
        let place = (cart, *client.rng.pick(&PRODUCTS));
        let additions = self.additions.entry(place).or_default();
        match client.rng.below(100) {
            0..55 if additions.len() < ADDITIONS_MAX => {
                let (asked_at, fate) = (client.now, Fate::Asked);
                additions.push(Addition { asked_at, fate });
                Asked::Add(place, additions.len() - 1)
            }
            0..75 => Asked::Show(cart),
            75..87 => Asked::Remove(place),
            87..92 => Asked::CheckOut(cart),
            92..96 => Asked::Note,
            _ => Asked::Nonsense,
        }
    }

    /// Notes a removal before it is made: from now on it may be.
    fn note_removal(&mut self, client: usize, asked: &Asked) {
        for place in places(asked) {
            let removal = Removal {
                client,
                answered_at: None,
                took: None,
            };
            self.removals.entry(place).or_default().push(removal);
        }
    }

    /// A removal's end: what it took of a line, or that nobody knows, or that it took nothing.
    fn end_removal(&mut self, answered: &Answered, place: Place, took: Option<BTreeSet<usize>>) {
        let of_line = self.removals.entry(place).or_default();
        let open = |removal: &Removal| removal.client == answered.client && removal.answered_at.is_none();
        let Some(at) = of_line.iter().position(open) else {
            panic!("a removal is noted when it is asked for");
        };
        if answered.result.is_err() && !answered.may_have_run() {
            of_line.remove(at);
            return;
        }
        of_line[at].answered_at = Some(answered.answered_at);
        of_line[at].took = took;
    }

    /// Whether an addition may be gone: some removal may have seen it, and is not known to have left it.
    fn may_be_gone(&self, place: Place, addition: usize) -> bool {
        let asked_at = self.additions[&place][addition].asked_at;
        let took = |removal: &Removal| match (&removal.took, removal.answered_at) {
            (Some(took), _) => took.contains(&addition),
            (None, Some(at)) => asked_at <= at,
            (None, None) => true,
        };
        self.removals
            .get(&place)
            .is_some_and(|removals| removals.iter().any(took))
    }

    fn surely_gone(&self, place: Place, addition: usize) -> bool {
        let took = |removal: &Removal| removal.took.as_ref().is_some_and(|took| took.contains(&addition));
        self.removals
            .get(&place)
            .is_some_and(|removals| removals.iter().any(took))
    }

    /// The additions that make up a line; each is one that was made, and is in it once.
    fn read(&self, place: Place, quantity: u64) -> Result<BTreeSet<usize>, String> {
        let none = Vec::new();
        let additions = self.additions.get(&place).unwrap_or(&none);
        let mut there = BTreeSet::new();
        let mut rest = quantity;
        for (number, addition) in additions.iter().enumerate() {
            match (rest % 4, addition.fate) {
                (0, _) => {}
                (1, Fate::Nothing) => {
                    return Err(format!(
                        "{place:?} has {quantity}: addition {number} changed nothing, and is in it"
                    ));
                }
                (1, _) => {
                    there.insert(number);
                }
                (n, _) => {
                    return Err(format!(
                        "{place:?} has {quantity}: addition {number} is in it {n} times"
                    ));
                }
            }
            rest /= 4;
        }
        if rest > 0 {
            return Err(format!("{place:?} has {quantity}, which nobody added"));
        }
        Ok(there)
    }

    /// A client sees a line, in a session or not.
    fn on_seen(&mut self, client: usize, place: Place, quantity: u64) -> Result<BTreeSet<usize>, String> {
        let there = self.read(place, quantity)?;
        let Some(session) = self.sessions.get(&client) else {
            return Ok(there);
        };
        let (had, gone) = (session.there.get(&place), session.gone.get(&place));
        if let Some(back) = gone
            .into_iter()
            .flatten()
            .find(|addition| there.contains(addition))
        {
            return Err(format!(
                "client {client} sees addition {back} to {place:?} again, which it saw gone"
            ));
        }
        let missing: Vec<usize> = had
            .into_iter()
            .flatten()
            .copied()
            .filter(|a| !there.contains(a))
            .collect();
        if let Some(lost) = missing
            .iter()
            .find(|addition| !self.may_be_gone(place, **addition))
        {
            return Err(format!(
                "client {client} saw addition {lost} to {place:?}, does not see it in {quantity}, and nobody took it"
            ));
        }
        let session = self.sessions.entry(client).or_default();
        session.gone.entry(place).or_default().extend(missing);
        session.there.insert(place, there.clone());
        Ok(there)
    }

    /// A client has taken this out: it sees it gone.
    fn on_taken(&mut self, answered: &Answered, place: Place, quantity: u64) -> Result<(), String> {
        let took = self.on_seen(answered.client, place, quantity)?;
        if let Some(session) = self.sessions.get_mut(&answered.client) {
            session.there.remove(&place);
            session.gone.entry(place).or_default().extend(&took);
        }
        self.end_removal(answered, place, Some(took));
        Ok(())
    }

    fn on_contents(&mut self, client: usize, cart: &str, contents: &Contents) -> Result<(), String> {
        for place in all_places().filter(|(of, _)| *of == cart) {
            self.on_seen(client, place, quantity(contents, place))?;
        }
        is_known(contents)
    }

    fn on_refused(&mut self, answered: &Answered, asked: &Asked) -> Result<(), String> {
        let details = answered
            .result
            .as_ref()
            .err()
            .and_then(|error| error.details::<CartError>());
        match (asked, details) {
            (Asked::Remove(place), Some(CartError::NotThere { product })) if product == place.1 => {
                self.on_seen(answered.client, *place, 0).map(|_| ())
            }
            (Asked::Nonsense, Some(CartError::NothingToAdd { .. } | CartError::TooMany { .. })) => Ok(()),
            (_, details) => Err(format!("{asked:?} was refused: {details:?}")),
        }
    }

    fn on_reply(&mut self, answered: &Answered, asked: &Asked) -> Result<(), String> {
        let reply = "it was answered";
        match *asked {
            Asked::Add(place, addition) => {
                let now: u64 = answered.reply().expect(reply);
                let there = self.on_seen(answered.client, place, now)?;
                if !there.contains(&addition) {
                    return Err(format!(
                        "addition {addition} to {place:?} answers {now}, without itself"
                    ));
                }
            }
            Asked::Remove(place) => self.on_taken(answered, place, answered.reply().expect(reply))?,
            Asked::CheckOut(cart) => {
                let contents: Contents = answered.reply().expect(reply);
                for place in places(asked) {
                    self.on_taken(answered, place, quantity(&contents, place))?;
                }
                is_known(&contents)?;
                assert!(contents.lines.len() <= PRODUCTS.len(), "{cart} has {contents:?}");
            }
            Asked::Show(cart) => self.on_contents(answered.client, cart, &answered.reply().expect(reply))?,
            Asked::Note => {}
            Asked::Nonsense => return Err("nonsense was answered".to_owned()),
        }
        Ok(())
    }
}

impl Application for Carts {
    fn functions(&self) -> Vec<Function> {
        (self.functions)()
    }

    fn next(&mut self, client: &mut Client) -> Option<Ask> {
        let asked = self.invent(client);
        self.note_removal(client.ix, &asked);
        let ask = ask_for(&asked);
        self.asked.insert(client.ix, asked);
        let timeout_ms = client.rng.log_uniform(20.0, 10_000.0) as u64;
        let ask = ask.at(client.any_node()).within_ms(timeout_ms);
        // Every other client has a session.
        if client.ix % 2 == 1 {
            return Some(ask);
        }
        let session = self.sessions.entry(client.ix).or_default();
        Some(match (self.sends_tokens, session.is_stale) {
            (false, _) => ask,
            (true, false) => ask.in_session(),
            (true, true) => {
                *session = Session::default();
                ask.in_new_session()
            }
        })
    }

    fn on_answer(&mut self, answered: &Answered, _: &Cluster<'_>) -> Result<(), String> {
        let asked = self.asked.remove(&answered.client).expect("it asked");
        let is_in = answered.result.is_ok();
        if let Asked::Add(place, number) = asked {
            let addition = &mut self.additions.get_mut(&place).expect("it was asked for")[number];
            addition.fate = Fate::of(answered);
        }
        if !is_in {
            places(&asked).for_each(|place| self.end_removal(answered, place, None));
        }
        if is_in {
            self.on_reply(answered, &asked)
        } else if answered.is_refused() {
            self.on_refused(answered, &asked)
        } else {
            // What it has seen may be gone with a node that had told nobody.
            if let Some(session) = self.sessions.get_mut(&answered.client) {
                session.is_stale |= answered.is_error(anabranch::ErrorKind::Stale);
            }
            Ok(())
        }
    }

    fn at_rest(&mut self, cluster: &Cluster<'_>) -> Result<(), String> {
        for node in 0..cluster.nodes() {
            for cart in CARTS {
                let contents: Contents = cluster.query(node, "cart", cart, "show", &())?;
                is_known(&contents)?;
                for place in all_places().filter(|(of, _)| *of == cart) {
                    let there = self.read(place, quantity(&contents, place))?;
                    let wrong =
                        |what: &str, n: usize| Err(format!("node {node}, {place:?}: addition {n} {what}"));
                    for (n, addition) in self.additions.get(&place).into_iter().flatten().enumerate() {
                        match (there.contains(&n), addition.fate) {
                            (true, _) if self.surely_gone(place, n) => {
                                return wrong("was taken, and is there", n);
                            }
                            (false, Fate::Answered) if !self.may_be_gone(place, n) => {
                                return wrong("was answered, and is lost", n);
                            }
                            _ => {}
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

fn all_places() -> impl Iterator<Item = Place> {
    CARTS
        .into_iter()
        .flat_map(|cart| PRODUCTS.map(|product| (cart, product)))
}

/// The lines that something takes out of.
fn places(asked: &Asked) -> impl Iterator<Item = Place> + use<> {
    let (line, cart) = match asked {
        Asked::Remove(place) => (Some(*place), None),
        Asked::CheckOut(cart) => (None, Some(*cart)),
        _ => (None, None),
    };
    all_places().filter(move |place| line == Some(*place) || cart == Some(place.0))
}

fn ask_for(asked: &Asked) -> Ask {
    let line = |product: &str, quantity: u32| Line {
        product: product.to_owned(),
        quantity,
    };
    match *asked {
        Asked::Add((cart, product), number) => {
            Ask::of("cart", cart, "add", &line(product, 4_u32.pow(number as u32)))
        }
        Asked::Remove((cart, product)) => Ask::of("cart", cart, "remove", product),
        Asked::CheckOut(cart) => Ask::of("cart", cart, "checkout", &()),
        Asked::Show(cart) => Ask::of("cart", cart, "show", &()),
        Asked::Note => Ask::of("cart", "alice", "note", "handle with care"),
        Asked::Nonsense => Ask::of("cart", "bob", "add", &line("hat", 2_000)),
    }
}

fn quantity(contents: &Contents, (_, product): Place) -> u64 {
    let lines = contents.lines.iter().filter(|line| line.product == product);
    lines.map(|line| u64::from(line.quantity)).sum()
}

/// Nothing is in a cart that nobody sells.
fn is_known(contents: &Contents) -> Result<(), String> {
    let strange = contents
        .lines
        .iter()
        .find(|line| !PRODUCTS.contains(&line.product.as_str()));
    strange.map_or(Ok(()), |line| Err(format!("there is {line:?} in a cart")))
}
