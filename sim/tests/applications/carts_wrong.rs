//! Carts as one might write them, and should not.

use anabranch::state::{CounterMap, RegisterMap};
use anabranch::{Context, Copies, Function, Level, Stage};

use super::cart::{CartError, Contents, Line};

const QUANTITY_MAX: u64 = 1_000;

fn check(line: &Line, there: u64) -> Result<u64, CartError> {
    let Line { product, quantity } = line;
    let (product, wanted) = (product.clone(), there + u64::from(*quantity));
    match (*quantity, wanted) {
        (0, _) => Err(CartError::NothingToAdd { product }),
        (_, wanted) if wanted > QUANTITY_MAX => {
            let max = QUANTITY_MAX;
            Err(CartError::TooMany { product, wanted, max })
        }
        _ => Ok(wanted),
    }
}

fn contents(lines: impl Iterator<Item = (String, u64)>) -> Contents {
    let lines = lines.filter(|(_, quantity)| *quantity > 0);
    let line = |(product, quantity): (String, u64)| Line {
        product,
        quantity: u32::try_from(quantity).unwrap_or(u32::MAX),
    };
    Contents {
        lines: lines.map(line).collect(),
        note: None,
    }
}

fn note<S>(_: &mut S, _: &mut Context, _: String) -> Result<(), CartError> {
    Ok(())
}

type Sums = RegisterMap<String, u64>;

/// Of two additions at once one is lost.
pub fn sets_the_sum() -> Function {
    Function::of::<Sums>("cart")
        .command("add", |cart: &mut Sums, _, line: Line| {
            let sum = check(&line, cart.get(&line.product).unwrap_or(0))?;
            cart.set(&line.product, &sum);
            Ok::<_, CartError>(sum)
        })
        .command("remove", |cart: &mut Sums, _, product: String| {
            match cart.get(&product) {
                Some(quantity) => {
                    cart.remove(&product);
                    Ok(quantity)
                }
                None => Err(CartError::NotThere { product }),
            }
        })
        .command("checkout", |cart: &mut Sums, context, ()| {
            context.delete();
            Ok::<_, CartError>(contents(cart.entries().into_iter()))
        })
        .command("note", note)
        .query("show", |cart: &Sums, _, ()| {
            Ok::<_, CartError>(contents(cart.entries().into_iter()))
        })
        .into()
}

type Counts = CounterMap<String>;

fn quantity(cart: &Counts, product: &str) -> u64 {
    u64::try_from(cart.get(product)).unwrap_or(0)
}

fn counted(cart: &Counts) -> Contents {
    contents(
        cart.entries()
            .into_iter()
            .map(|(product, count)| (product, u64::try_from(count).unwrap_or(0))),
    )
}

fn take_down(cart: &mut Counts, product: &str) -> u64 {
    let there = quantity(cart, product);
    cart.increment(product, -(there as i64));
    there
}

/// What is taken out twice at once is taken out twice.
pub fn counts_down() -> Function {
    Function::of::<Counts>("cart")
        .command("add", |cart: &mut Counts, _, line: Line| {
            let sum = check(&line, quantity(cart, &line.product))?;
            cart.increment(&line.product, line.quantity.into());
            Ok::<_, CartError>(sum)
        })
        .command(
            "remove",
            |cart: &mut Counts, _, product: String| match take_down(cart, &product) {
                0 => Err(CartError::NotThere { product }),
                there => Ok(there),
            },
        )
        .command("checkout", |cart: &mut Counts, _, ()| {
            let contents = counted(cart);
            for line in &contents.lines {
                take_down(cart, &line.product);
            }
            Ok::<_, CartError>(contents)
        })
        .command("note", note)
        .query("show", |cart: &Counts, _, ()| Ok::<_, CartError>(counted(cart)))
        .into()
}

/// What a crash takes was answered.
pub fn answers_early() -> Function {
    let early = Level {
        copies: Copies::Local,
        stage: Stage::Applied,
    };
    Function::of::<Counts>("cart")
        .command("add", move |cart: &mut Counts, context, line: Line| {
            let sum = check(&line, quantity(cart, &line.product))?;
            cart.increment(&line.product, line.quantity.into());
            context.confirm(early);
            Ok::<_, CartError>(sum)
        })
        .command("remove", |cart: &mut Counts, _, product: String| {
            match quantity(cart, &product) {
                0 => Err(CartError::NotThere { product }),
                there => {
                    cart.remove(&product);
                    Ok(there)
                }
            }
        })
        .command("checkout", |cart: &mut Counts, context, ()| {
            context.delete();
            Ok::<_, CartError>(counted(cart))
        })
        .command("note", note)
        .query("show", |cart: &Counts, _, ()| Ok::<_, CartError>(counted(cart)))
        .into()
}
