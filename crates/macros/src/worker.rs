//! `#[worker]`: methods become the handlers of a worker.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{
    Attribute, Error, FnArg, ImplItem, ImplItemFn, ItemImpl, LitStr, Receiver, ReceiverKind,
    ReturnType, Type,
};

use crate::arguments::{Worker, WorkerMethod};
use crate::message::{Errors, check_owned, check_result, check_signature};

pub(crate) fn expand(arguments: &Worker, item: TokenStream) -> syn::Result<TokenStream> {
    let mut block: ItemImpl = syn::parse2(item)
        .map_err(|error| Error::new(error.span(), "`#[worker]` belongs on an `impl` block"))?;
    let mut errors = Errors::default();
    if let Some((of, _)) = &block.trait_ {
        errors.add(Error::new_spanned(
            of,
            "`#[worker]` belongs on the `impl` block of the type itself, not of a trait",
        ));
    }
    let mut handlers: Vec<Handler> = Vec::new();
    for item in &mut block.items {
        let ImplItem::Fn(method) = item else { continue };
        let Some(attribute) = take_attribute(method, &mut errors) else {
            continue;
        };
        match WorkerMethod::read(&attribute) {
            Ok(WorkerMethod { kind }) => {
                if let Some(taken) = handlers
                    .iter()
                    .find(|handler| handler.kind.value() == kind.value())
                {
                    errors.add(Error::new(
                        kind.span(),
                        format!("messages of this kind go to the method `{}`", taken.name),
                    ));
                }
                check(method, &mut errors);
                handlers.push(Handler::new(kind, method));
            }
            Err(error) => errors.add(error),
        }
    }
    errors.finish()?;
    if handlers.is_empty() {
        return Err(Error::new_spanned(
            &block.self_ty,
            "no method is marked `#[worker_method(\"kind\")]`, so the worker could handle nothing",
        ));
    }
    let facade = &arguments.facade;
    let (generics, _, conditions) = block.generics.split_for_impl();
    let of = &block.self_ty;
    let methods = handlers.iter().map(Handler::register);
    Ok(quote! {
        #block

        impl #generics #facade::Service for #of #conditions {
            fn register(self, worker: &#facade::Worker) {
                let service = #facade::__private::SharedService::new(self);
                #(#methods)*
            }
        }
    })
}

/// One marked method.
struct Handler {
    kind: LitStr,
    name: syn::Ident,
    payload: Option<Type>,
    can_fail: bool,
    conditions: Vec<Attribute>,
}

impl Handler {
    fn new(kind: LitStr, method: &ImplItemFn) -> Self {
        let payload = method
            .sig
            .inputs
            .iter()
            .find_map(|argument| match argument {
                FnArg::Typed(argument) => Some((*argument.ty).clone()),
                FnArg::Receiver(_) => None,
            });
        Self {
            kind,
            name: method.sig.ident.clone(),
            payload,
            can_fail: is_result(&method.sig.output),
            conditions: method
                .attrs
                .iter()
                .filter(|attribute| attribute.path().is_ident("cfg"))
                .cloned()
                .collect(),
        }
    }

    fn register(&self) -> TokenStream {
        let Self {
            kind,
            name,
            payload,
            can_fail,
            conditions,
        } = self;
        let (argument, call) = match payload {
            Some(payload) => (quote!(data: #payload), quote!(Self::#name(service, data))),
            None => (quote!((): ()), quote!(Self::#name(service))),
        };
        let result = if *can_fail {
            call
        } else {
            quote!(::core::result::Result::<_, ::core::convert::Infallible>::Ok(#call))
        };
        quote! {
            #(#conditions)*
            service.method(worker, #kind, |service: &mut Self, #argument| #result);
        }
    }
}

/// Whether the type is a `Result` by its name: `Result<T, E>`, `io::Result<T>`, an alias that ends the same.
fn is_result(output: &ReturnType) -> bool {
    match output {
        ReturnType::Type(_, of) => match &**of {
            Type::Path(of) => of
                .path
                .segments
                .last()
                .is_some_and(|last| last.ident.to_string().ends_with("Result")),
            _ => false,
        },
        ReturnType::Default => false,
    }
}

/// Takes the mark off a method.
fn take_attribute(method: &mut ImplItemFn, errors: &mut Errors) -> Option<Attribute> {
    let (mut marks, others): (Vec<_>, Vec<_>) = std::mem::take(&mut method.attrs)
        .into_iter()
        .partition(|attribute| {
            attribute
                .path()
                .segments
                .last()
                .is_some_and(|last| last.ident == "worker_method")
        });
    method.attrs = others;
    if let Some(second) = marks.get(1) {
        errors.add(Error::new_spanned(
            second,
            "a method handles one kind: write a second method that calls it",
        ));
    }
    if marks.is_empty() {
        return None;
    }
    Some(marks.swap_remove(0))
}

fn check(method: &ImplItemFn, errors: &mut Errors) {
    let signature = &method.sig;
    check_signature(signature, errors);
    check_result(&signature.output, errors);
    let mut arguments = signature.inputs.iter();
    match arguments.next() {
        Some(FnArg::Receiver(Receiver {
            kind: ReceiverKind::Reference(..),
            ..
        })) => {}
        Some(FnArg::Receiver(receiver)) => errors.add(Error::new_spanned(
            receiver,
            "the worker keeps the value for later messages: take `&self` or `&mut self`",
        )),
        _ => errors.add(Error::new_spanned(
            &signature.ident,
            "a worker method takes `&self` or `&mut self` first",
        )),
    }
    for (index, argument) in arguments.enumerate() {
        let FnArg::Typed(argument) = argument else {
            continue;
        };
        check_owned(&argument.ty, "a payload", errors);
        if index > 0 {
            errors.add(Error::new_spanned(
                argument,
                "a message has one payload: put the values into a struct or a tuple",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expansion_reaches_the_crate_by_the_name_it_was_given() {
        let item = quote! {
            impl Service {
                #[worker_method("a")]
                fn a(&mut self, x: u64) -> Result<u64, E> { Ok(x) }
                #[worker_method("b")]
                fn b(&self) {}
            }
        };
        let renamed = syn::parse_str("crate = ::renamed::crates").expect("arguments");
        let expanded = expand(&renamed, item.clone())
            .expect("it expands")
            .to_string();
        assert!(!expanded.contains("pytoweb_workers"), "{expanded}");
        assert!(
            expanded.contains(":: renamed :: crates :: Service"),
            "{expanded}"
        );
        let standard = syn::parse_str("").expect("no arguments");
        let expanded = expand(&standard, item).expect("it expands").to_string();
        assert!(
            expanded.contains(":: pytoweb_workers :: Service"),
            "{expanded}"
        );
    }

    #[test]
    fn a_type_is_a_result_by_its_name() {
        for (signature, expected) in [
            ("fn f() -> Result<u64, E>", true),
            ("fn f() -> std::io::Result<()>", true),
            ("fn f() -> ParseResult", true),
            ("fn f() -> u64", false),
            ("fn f() -> Vec<Result<u64, E>>", false),
            ("fn f()", false),
        ] {
            let signature: syn::Signature = syn::parse_str(signature).expect("a signature");
            assert_eq!(is_result(&signature.output), expected);
        }
    }
}
