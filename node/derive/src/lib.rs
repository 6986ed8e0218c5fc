//! `#[derive(State)]`: a struct whose fields are replicated values, as the state of an entity.
//!
//! Not here: what a state is and what fields it may have: `anabranch::state`.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::quote;
use syn::{Data, DeriveInput, Error, Field, Fields, parse_macro_input};

/// Makes a struct with named fields the state of an entity: a map (`ormap`) with the fields as its children, each under its
/// name. Renaming a field makes it another child: what was kept under the old name stays there and is not read any more.
///
/// See `anabranch::state`.
#[proc_macro_derive(State)]
pub fn derive_state(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(Error::into_compile_error).into()
}

fn expand(input: &DeriveInput) -> Result<Tokens, Error> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(&input.ident, "a state is a struct"));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(Error::new_spanned(&input.ident, "a state's fields have names"));
    };
    if fields.named.is_empty() {
        return Err(Error::new_spanned(&input.ident, "a state has at least one field"));
    }
    let (name, (generics, types, bounds)) = (&input.ident, input.generics.split_for_impl());
    let checks = fields.named.iter().map(check);
    let opens = fields.named.iter().map(open);
    let changes = fields.named.iter().map(change);
    Ok(quote! {
        impl #generics ::anabranch::state::State for #name #types #bounds {
            const TYPE: ::anabranch::Type = {
                #(#checks)*
                ::anabranch::Type::OrMap
            };

            fn open(seen: &::anabranch::state::Seen) -> Self {
                Self { #(#opens),* }
            }

            fn changes(self) -> ::std::vec::Vec<::anabranch::Mutation> {
                let mut changes = ::std::vec::Vec::new();
                #(#changes)*
                changes
            }
        }
    })
}

/// The field's name, without the `r#` of a keyword, as the child's key.
fn key(field: &Field) -> String {
    let name = field.ident.as_ref().map(ToString::to_string).unwrap_or_default();
    name.trim_start_matches("r#").to_owned()
}

/// That no field is of the type that no map holds: found as the program is compiled.
fn check(field: &Field) -> Tokens {
    let ty = &field.ty;
    quote! {
        ::std::assert!(
            !::std::matches!(
                <#ty as ::anabranch::state::State>::TYPE,
                ::anabranch::Type::BoundedCounter
            ),
            "a BoundedCounter is the state of an entity of its own, and no field of another"
        );
    }
}

fn open(field: &Field) -> Tokens {
    let (ident, ty, key) = (&field.ident, &field.ty, key(field));
    quote! { #ident: <#ty as ::anabranch::state::State>::open(&seen.child(#key)) }
}

fn change(field: &Field) -> Tokens {
    let (ident, ty, key) = (&field.ident, &field.ty, key(field));
    quote! {
        ::anabranch::state::update(
            &mut changes,
            #key,
            <#ty as ::anabranch::state::State>::TYPE,
            <#ty as ::anabranch::state::State>::changes(self.#ident),
        );
    }
}
