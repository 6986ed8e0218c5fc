//! Clients of quotas, and what must hold of what they hear.
//!
//! What must hold: at no moment was more taken than was put in; whoever is refused asked for more than the node held, which says
//! how much that was; and in the end every node has left what was put in without what was taken, with what nobody knows of
//! counted either way.

use std::collections::{BTreeMap, BTreeSet};

use anabranch::crdt::Value;
use anabranch::{Function, Reading};
use anabranch_sim::app::{Answered, Application, Ask, Client, Cluster};

use super::quota::{Decision, Left};

const QUOTAS: [&str; 2] = ["api", "mail"];

#[derive(Clone, Copy, Debug)]
enum Asked {
    Deposit(u32),
    Take(u32),
    Left,
}

/// What is known of one quota.
#[derive(Debug, Default)]
struct Account {
    put_in: u64,
    taken: u64,
    /// Asked for, and not answered yet.
    under_way: u64,
    /// What may have been put in and taken besides.
    perhaps_put_in: Vec<u64>,
    perhaps_taken: Vec<u64>,
}

/// Clients that deposit and take, and what each account must have left.
pub struct Quotas {
    functions: fn() -> Vec<Function>,
    accounts: BTreeMap<&'static str, Account>,
    asked: BTreeMap<usize, (&'static str, Asked)>,
}

impl Quotas {
    pub fn of(functions: fn() -> Vec<Function>) -> Quotas {
        Quotas {
            functions,
            accounts: QUOTAS.map(|quota| (quota, Account::default())).into(),
            asked: BTreeMap::new(),
        }
    }
}

impl Account {
    /// No more can have been put in so far.
    fn most(&self) -> u64 {
        self.put_in + self.under_way + self.perhaps_put_in.iter().sum::<u64>()
    }

    fn on_answer(&mut self, answered: &Answered, asked: Asked) -> Result<(), String> {
        let reply = "it was answered";
        if let Asked::Deposit(amount) = asked {
            self.under_way -= u64::from(amount);
        }
        match asked {
            Asked::Deposit(amount) if answered.result.is_ok() => {
                self.put_in += u64::from(amount);
                let in_all: u64 = answered.reply().expect(reply);
                self.check_in_all(in_all)?;
                if in_all < u64::from(amount) {
                    return Err(format!("{amount} were put in, and {in_all} are left at once"));
                }
            }
            Asked::Take(amount) if answered.result.is_ok() => match answered.reply().expect(reply) {
                Decision::Taken => self.taken += u64::from(amount),
                Decision::Denied { here, elsewhere } => {
                    self.check_in_all(here + elsewhere)?;
                    check_denial(answered, amount, here, elsewhere)?;
                }
            },
            Asked::Left if answered.result.is_ok() => {
                let Left { here, in_all } = answered.reply().expect(reply);
                self.check_in_all(in_all)?;
                if here > in_all {
                    return Err(format!("a node holds {here} of {in_all}"));
                }
            }
            Asked::Deposit(amount) if answered.may_have_run() => self.perhaps_put_in.push(amount.into()),
            Asked::Take(amount) if answered.may_have_run() => self.perhaps_taken.push(amount.into()),
            _ => {}
        }
        if self.taken > self.most() {
            return Err(format!("{} were taken of at most {}", self.taken, self.most()));
        }
        Ok(())
    }

    fn check_in_all(&self, in_all: u64) -> Result<(), String> {
        let most = self.most();
        if in_all > most {
            return Err(format!("{in_all} are left of at most {most} that were put in"));
        }
        Ok(())
    }

    /// What may be left in the end.
    fn left(&self) -> BTreeSet<i128> {
        let sums = |amounts: &[u64]| {
            let mut sums = BTreeSet::from([0_i128]);
            for amount in amounts {
                let more: Vec<i128> = sums.iter().map(|sum| sum + i128::from(*amount)).collect();
                sums.extend(more);
            }
            sums
        };
        let (more, less) = (sums(&self.perhaps_put_in), sums(&self.perhaps_taken));
        let surely = i128::from(self.put_in) - i128::from(self.taken);
        more.iter()
            .flat_map(|more| less.iter().map(move |less| surely + more - less))
            .collect()
    }
}

/// Whoever is refused was at a node that held too little, and that says how much.
fn check_denial(answered: &Answered, amount: u32, here: u64, elsewhere: u64) -> Result<(), String> {
    if here >= u64::from(amount) {
        return Err(format!("{amount} were denied where {here} are held"));
    }
    let (replica, view) = answered.saw.as_ref().ok_or("it was denied by nobody")?;
    let (held, in_all) = match view.value() {
        Some(Value::BoundedCounter(counter)) => (u128::from(view.held(*replica)), counter.total()),
        None => (0, 0),
        Some(_) => return Ok(()),
    };
    if (u128::from(here), i128::from(here + elsewhere)) != (held, in_all) {
        return Err(format!(
            "it says {here} of {}, and held {held} of {in_all}",
            here + elsewhere
        ));
    }
    Ok(())
}

impl Application for Quotas {
    fn functions(&self) -> Vec<Function> {
        (self.functions)()
    }

    fn next(&mut self, client: &mut Client) -> Option<Ask> {
        let quota = *client.rng.pick(&QUOTAS);
        let account = self.accounts.entry(quota).or_default();
        let asked = match client.rng.below(100) {
            _ if account.most() == 0 => Asked::Deposit(100),
            0..7 => Asked::Deposit(client.rng.between(1, 60) as u32),
            7..92 => Asked::Take(client.rng.between(1, 8) as u32),
            _ => Asked::Left,
        };
        if let Asked::Deposit(amount) = asked {
            account.under_way += u64::from(amount);
        }
        self.asked.insert(client.ix, (quota, asked));
        let ask = match asked {
            Asked::Deposit(amount) => Ask::of("quota", quota, "deposit", &amount),
            Asked::Take(amount) => Ask::of("quota", quota, "take", &amount),
            Asked::Left => Ask::of("quota", quota, "left", &()),
        };
        let timeout_ms = client.rng.log_uniform(20.0, 10_000.0) as u64;
        Some(ask.within_ms(timeout_ms))
    }

    fn on_answer(&mut self, answered: &Answered, _: &Cluster<'_>) -> Result<(), String> {
        let (quota, asked) = self.asked.remove(&answered.client).expect("it asked");
        if answered.is_refused() {
            return Err(format!("{asked:?} was refused: {:?}", answered.result));
        }
        let account = self.accounts.entry(quota).or_default();
        account
            .on_answer(answered, asked)
            .map_err(|why| format!("{quota}: {why}"))
    }

    fn at_rest(&mut self, cluster: &Cluster<'_>) -> Result<(), String> {
        for (quota, account) in &self.accounts {
            let may = account.left();
            let mut held = 0;
            for node in 0..cluster.nodes() {
                let Left { here, in_all } = cluster.query(node, "quota", quota, "left", &())?;
                if !may.contains(&i128::from(in_all)) {
                    return Err(format!("{quota}: node {node} has {in_all} left, of {account:?}"));
                }
                held += here;
                let id = anabranch::EntityId::new("quota", quota).map_err(|e| e.to_string())?;
                match cluster.read(node, &id) {
                    Some((_, Reading::Count(count))) if count == i128::from(in_all) => {}
                    None if in_all == 0 => {}
                    other => {
                        return Err(format!(
                            "{quota}: node {node} has {in_all} left, and is {other:?}"
                        ));
                    }
                }
                if held > in_all {
                    return Err(format!("{quota}: the nodes hold {held} of {in_all}"));
                }
            }
        }
        Ok(())
    }
}
