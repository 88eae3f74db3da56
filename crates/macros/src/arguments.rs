//! What stands in the parentheses of the attributes.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Error, LitStr, Meta, Path, Token, parse_quote};

/// `crate = path`, or the name that the crate has unless told otherwise.
pub(crate) struct Facade(Path);

impl Facade {
    fn standard() -> Self {
        Self(parse_quote!(::pytoweb_workers))
    }
}

impl ToTokens for Facade {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        self.0.to_tokens(tokens);
    }
}

impl Parse for Facade {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        input.parse::<Token![crate]>()?;
        input.parse::<Token![=]>()?;
        input.call(Path::parse_mod_style).map(Self)
    }
}

fn end(input: ParseStream<'_>) -> syn::Result<()> {
    let _: Option<Token![,]> = input.parse()?;
    if input.is_empty() {
        Ok(())
    } else {
        Err(input.error("nothing more is expected here"))
    }
}

/// A string in the parentheses that must not be empty.
pub(crate) fn name(input: ParseStream<'_>, missing: &str) -> syn::Result<LitStr> {
    if !input.peek(LitStr) {
        return Err(Error::new(input.span(), missing));
    }
    let name: LitStr = input.parse()?;
    if name.value().is_empty() {
        return Err(Error::new(name.span(), missing));
    }
    Ok(name)
}

/// `#[run_in_worker("name", crate = path)]`
pub(crate) struct RunInWorker {
    pub(crate) worker: LitStr,
    pub(crate) facade: Facade,
}

impl Parse for RunInWorker {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let missing = "which worker? write its name: `#[run_in_worker(\"background-tasks\")]`";
        let worker = name(input, missing)?;
        let comma: Option<Token![,]> = input.parse()?;
        let facade = if comma.is_some() && input.peek(Token![crate]) {
            input.parse()?
        } else {
            Facade::standard()
        };
        end(input)?;
        Ok(Self { worker, facade })
    }
}

/// `#[worker(crate = path)]`
pub(crate) struct Worker {
    pub(crate) facade: Facade,
}

impl Parse for Worker {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let facade = if input.peek(Token![crate]) {
            input.parse()?
        } else if input.is_empty() {
            Facade::standard()
        } else {
            return Err(input.error(
                "`#[worker]` takes no name: it is given when the worker is made, `service.spawn(\"name\")`",
            ));
        };
        end(input)?;
        Ok(Self { facade })
    }
}

/// `#[worker_method("kind")]`
pub(crate) struct WorkerMethod {
    pub(crate) kind: LitStr,
}

impl WorkerMethod {
    const MISSING: &str = "which messages? write their kind: `#[worker_method(\"process-data\")]`";

    pub(crate) fn read(attribute: &Attribute) -> syn::Result<Self> {
        match &attribute.meta {
            Meta::List(_) => attribute.parse_args(),
            _ => Err(Error::new_spanned(attribute, Self::MISSING)),
        }
    }
}

impl Parse for WorkerMethod {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let kind = name(input, Self::MISSING)?;
        end(input)?;
        Ok(Self { kind })
    }
}
