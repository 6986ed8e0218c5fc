//! What a cart holds, and what it does.

use anabranch::state::{CounterMap, LwwRegister, State};
use anabranch::{Context, Error, Function, Stream};
use serde::{Deserialize, Serialize};

/// What a cart holds. Each line counts by itself: what two nodes add to it at once is added up.
#[derive(State)]
struct Cart {
    lines: CounterMap<String>,
    note: LwwRegister<String>,
}

/// A product and how many of it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub product: String,
    pub quantity: u32,
}

/// What a cart looks like.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Contents {
    pub lines: Vec<Line>,
    pub note: Option<String>,
}

/// Why a cart refuses.
#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum CartError {
    #[error("there is nothing to add of {product}")]
    NothingToAdd { product: String },
    #[error("a cart holds at most {max} of a product, and this would be {wanted} of {product}")]
    TooMany { product: String, wanted: u64, max: u64 },
    #[error("there is no {product} in the cart")]
    NotThere { product: String },
}

/// At most so many of a product, as far as one node sees.
const QUANTITY_MAX: u64 = 1_000;

impl Cart {
    /// Adds to a line; answers how many there are now.
    fn add(&mut self, _: &mut Context, line: Line) -> Result<u64, CartError> {
        let Line { product, quantity } = line;
        if quantity == 0 {
            return Err(CartError::NothingToAdd { product });
        }
        let wanted = self.quantity(&product) + u64::from(quantity);
        if wanted > QUANTITY_MAX {
            return Err(CartError::TooMany {
                product,
                wanted,
                max: QUANTITY_MAX,
            });
        }
        self.lines.increment(&product, quantity.into());
        Ok(wanted)
    }

    /// Takes a line out: as much of it as this node sees, which it answers. What is added elsewhere meanwhile stays.
    fn remove(&mut self, _: &mut Context, product: String) -> Result<u64, CartError> {
        let quantity = self.quantity(&product);
        if quantity == 0 {
            return Err(CartError::NotThere { product });
        }
        self.lines.remove(&product);
        Ok(quantity)
    }

    /// Leaves a note for whoever packs it.
    fn note(&mut self, _: &mut Context, text: String) -> Result<(), CartError> {
        self.note.set(&text);
        Ok(())
    }

    /// What is in it is ordered, and the cart is gone. Its order must not be lost with a node: a majority has it on disk before
    /// the caller hears of it.
    fn check_out(&mut self, context: &mut Context, _: ()) -> Result<Contents, CartError> {
        let contents = self.contents();
        context.delete();
        context.confirm(anabranch::Level {
            copies: anabranch::Copies::Majority,
            ..Default::default()
        });
        Ok(contents)
    }

    /// What is in it.
    fn show(&self, _: &Context, _: ()) -> Result<Contents, CartError> {
        Ok(self.contents())
    }

    fn contents(&self) -> Contents {
        let line = |(product, count): (String, i128)| Line {
            product,
            quantity: u32::try_from(count).unwrap_or(u32::MAX),
        };
        let lines = self.lines.entries().into_iter().filter(|(_, count)| *count > 0);
        Contents {
            lines: lines.map(line).collect(),
            note: self.note.get(),
        }
    }

    fn quantity(&self, product: &str) -> u64 {
        u64::try_from(self.lines.get(product)).unwrap_or(0)
    }
}

/// Adds one line after another, as they come; answers each time how many there are of it now.
async fn fill(mut stream: Stream<Cart, Line, u64>, (): ()) -> Result<(), Error> {
    let (kind, key) = (stream.entity().kind().to_owned(), stream.key().to_owned());
    while let Some(line) = stream.next().await? {
        let quantity = stream.call(&kind, &key, "add", &line).await?;
        stream.send(&quantity).await?;
    }
    Ok(())
}

/// The function of carts.
pub fn cart() -> Function {
    Function::of::<Cart>("cart")
        .command("add", Cart::add)
        .command("remove", Cart::remove)
        .command("note", Cart::note)
        .command("checkout", Cart::check_out)
        .query("show", Cart::show)
        .stream("fill", fill)
        .into()
}
