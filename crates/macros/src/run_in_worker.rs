//! `#[run_in_worker]`: a function becomes a call of a worker.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Attribute, Error, FnArg, Ident, ItemFn, Pat, ReturnType, Type};

use crate::arguments::RunInWorker;
use crate::message::{Errors, check_owned, check_result, check_signature};

pub(crate) fn expand(arguments: &RunInWorker, item: TokenStream) -> syn::Result<TokenStream> {
    let function: ItemFn = syn::parse2(item).map_err(|error| {
        Error::new(
            error.span(),
            "`#[run_in_worker]` belongs on a function with a body",
        )
    })?;
    let (names, types) = check(&function)?;
    let RunInWorker { worker, facade } = arguments;
    let ItemFn {
        attrs,
        vis,
        sig,
        block,
        ..
    } = &function;
    let name = &sig.ident;
    let inputs = &sig.inputs;
    let output = &sig.output;
    let result = match output {
        ReturnType::Default => quote!(()),
        ReturnType::Type(_, result) => quote!(#result),
    };
    let shown = attrs.iter().filter(|attribute| is_about_calls(attribute));
    let inner = attrs.iter().filter(|attribute| !is_about_calls(attribute));
    let conditions: Vec<_> = attrs
        .iter()
        .filter(|attribute| attribute.path().is_ident("cfg"))
        .collect();
    let about = format!(
        "Sends calls of [`{name}()`] to the worker `{}`.",
        worker.value()
    );
    Ok(quote! {
        #(#shown)*
        #(#conditions)*
        #[track_caller]
        #vis fn #name(#(#names: #types),*) #output {
            #facade::__private::run_call(
                #worker,
                ::core::concat!(::core::module_path!(), "::", ::core::stringify!(#name)),
                move || #name::__call(#(#names),*),
            )
        }

        #[doc = #about]
        #(#conditions)*
        #[allow(non_camel_case_types)]
        #[derive(Debug)]
        #vis enum #name {}

        #(#conditions)*
        impl #name {
            /// Sends the call and returns its reply.
            #[allow(clippy::too_many_arguments)]
            #vis fn submit(#(#names: #types),*) -> #facade::Reply<#result> {
                #facade::__private::submit_call(
                    #worker,
                    ::core::concat!(::core::module_path!(), "::", ::core::stringify!(#name)),
                    move || Self::__call(#(#names),*),
                )
            }

            #(#inner)*
            fn __call(#inputs) #output #block
        }
    })
}

/// Attributes for the callers; the others go with the body.
fn is_about_calls(attribute: &Attribute) -> bool {
    ["doc", "must_use", "deprecated"]
        .iter()
        .any(|name| attribute.path().is_ident(name))
}

/// Checks the function, and returns names and types of its arguments.
fn check(function: &ItemFn) -> syn::Result<(Vec<Ident>, Vec<&Type>)> {
    let mut errors = Errors::default();
    check_signature(&function.sig, &mut errors);
    check_result(&function.sig.output, &mut errors);
    let mut names = Vec::new();
    let mut types = Vec::new();
    for (index, argument) in function.sig.inputs.iter().enumerate() {
        match argument {
            FnArg::Receiver(receiver) => errors.add(Error::new_spanned(
                receiver,
                "`#[run_in_worker]` belongs on a function: for methods use `#[worker]` on their `impl` block",
            )),
            FnArg::Typed(argument) => {
                check_owned(&argument.ty, "an argument", &mut errors);
                names.push(match &*argument.pat {
                    Pat::Ident(pattern) => pattern.ident.clone(),
                    _ => format_ident!("argument_{index}"),
                });
                types.push(&*argument.ty);
            }
        }
    }
    errors.finish()?;
    Ok((names, types))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expansion_reaches_the_crate_by_the_name_it_was_given() {
        let item = quote!(
            fn f(x: u64) -> u64 {
                x
            }
        );
        let renamed = syn::parse_str("\"w\", crate = ::renamed").expect("arguments");
        let expanded = expand(&renamed, item.clone())
            .expect("it expands")
            .to_string();
        assert!(!expanded.contains("pytoweb_workers"), "{expanded}");
        assert!(expanded.contains(":: renamed :: Reply"), "{expanded}");
        let standard = syn::parse_str("\"w\"").expect("arguments");
        let expanded = expand(&standard, item).expect("it expands").to_string();
        assert!(
            expanded.contains(":: pytoweb_workers :: Reply"),
            "{expanded}"
        );
    }
}
