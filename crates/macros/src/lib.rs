//! The attribute macros of `pytoweb-workers`: parsing and expansion, nothing at run time.
//!
//! Depend on `pytoweb-workers`, which re-exports them with examples.

#![forbid(unsafe_code)]

mod arguments;
mod message;
mod run_in_worker;
mod worker;

use proc_macro::TokenStream;
use syn::parse_macro_input;

use crate::arguments::{RunInWorker, Worker};

/// Runs a function in the named worker of the default pool.
///
/// `#[run_in_worker("name")]` on a function keeps its name and signature: a call sends the arguments to the worker,
/// waits, and returns the result. It also declares a type of the same name, with `submit`, which takes the same
/// arguments and returns a `Reply` at once. Called from inside that worker, the function runs where it is.
///
/// The worker is made and started on first use. Arguments and result are moved between threads, so their types are
/// `Send` and borrow nothing. `#[run_in_worker("name", crate = path)]` says where `pytoweb-workers` is, if it goes
/// by another name.
///
/// # Panics
/// The function panics where it was called if it panicked in the worker, and if the worker cannot reply: it was
/// stopped in between, or it waits for the caller.
#[proc_macro_attribute]
pub fn run_in_worker(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let arguments = parse_macro_input!(arguments as RunInWorker);
    run_in_worker::expand(&arguments, item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Makes the marked methods of an `impl` block handle the messages of a worker.
///
/// Methods marked `#[worker_method("kind")]` take `&self` or `&mut self` and at most one argument, the payload, and
/// return a `Result`, or a plain value where they cannot fail (by the name of the type: one that ends in `Result` is
/// one). The block stays as it is, and the type implements `Service`: `value.spawn("name")` moves the value into a
/// worker of its own, `value.register(&worker)` into a worker at hand. Messages come one at a time, so methods never
/// wait for each other.
///
/// `#[worker(crate = path)]` says where `pytoweb-workers` is, if it goes by another name.
#[proc_macro_attribute]
pub fn worker(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let arguments = parse_macro_input!(arguments as Worker);
    worker::expand(&arguments, item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Marks a method as the handler of a kind, in an `impl` block marked `#[worker]`.
#[proc_macro_attribute]
pub fn worker_method(_: TokenStream, item: TokenStream) -> TokenStream {
    let item = proc_macro2::TokenStream::from(item);
    let error = syn::Error::new(
        proc_macro2::Span::call_site(),
        "`#[worker_method]` belongs on a method of an `impl` block marked `#[worker]`",
    )
    .into_compile_error();
    quote::quote!(#error #item).into()
}
