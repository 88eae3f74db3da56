//! What a function must be like, so that its arguments can travel as a message.

use syn::visit::{self, Visit};
use syn::{Error, GenericParam, ReturnType, Safety, Signature, Type, TypeImplTrait, TypeReference};

/// Collects errors, so that the user sees all of them at once.
#[derive(Default)]
pub(crate) struct Errors(Option<Error>);

impl Errors {
    pub(crate) fn add(&mut self, error: Error) {
        match &mut self.0 {
            Some(errors) => errors.combine(error),
            None => self.0 = Some(error),
        }
    }

    pub(crate) fn finish(self) -> syn::Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

/// Checks what functions and methods have in common.
pub(crate) fn check_signature(signature: &Signature, errors: &mut Errors) {
    if let Some(token) = &signature.asyncness {
        errors.add(Error::new_spanned(
            token,
            "a worker runs plain functions: remove `async`; wait for replies with `Reply::wait`, and for other futures with \
             `blocking(|| block_on(future))`, so that another thread of the pool runs meanwhile",
        ));
    }
    if let Some(token) = &signature.constness {
        errors.add(Error::new_spanned(
            token,
            "a `const fn` cannot send messages: remove `const`",
        ));
    }
    if let Safety::Unsafe(token) = &signature.safety {
        errors.add(Error::new_spanned(
            token,
            "a worker cannot keep the promises of an `unsafe fn`: wrap it in a safe one",
        ));
    }
    if let Some(abi) = &signature.abi {
        errors.add(Error::new_spanned(
            abi,
            "a worker runs Rust functions: remove `extern`",
        ));
    }
    for parameter in &signature.generics.params {
        let text = match parameter {
            GenericParam::Lifetime(_) => {
                "a message borrows nothing: take owned values instead of a lifetime parameter"
            }
            _ => "a message has one type: write it instead of a generic parameter",
        };
        errors.add(Error::new_spanned(parameter, text));
    }
    if let Some(variadic) = &signature.variadic {
        errors.add(Error::new_spanned(
            variadic,
            "a message has a fixed number of values",
        ));
    }
}

/// Checks that values of the type can be moved to another thread, as far as the syntax tells.
pub(crate) fn check_owned(of: &Type, what: &'static str, errors: &mut Errors) {
    Owned { what, errors }.visit_type(of);
}

/// The same for a result.
pub(crate) fn check_result(result: &ReturnType, errors: &mut Errors) {
    if let ReturnType::Type(_, result) = result {
        check_owned(result, "a result", errors);
    }
}

struct Owned<'a> {
    what: &'static str,
    errors: &'a mut Errors,
}

impl<'ast> Visit<'ast> for Owned<'_> {
    fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
        if reference
            .lifetime
            .as_ref()
            .is_some_and(|lifetime| lifetime.ident == "static")
        {
            visit::visit_type_reference(self, reference);
            return;
        }
        let what = self.what;
        self.errors.add(Error::new_spanned(
            reference,
            format!(
                "{what} is moved to another thread: use an owned type, such as `String` for `&str`"
            ),
        ));
    }

    fn visit_type_impl_trait(&mut self, of: &'ast TypeImplTrait) {
        let what = self.what;
        self.errors.add(Error::new_spanned(
            of,
            format!("{what} has one type: write it instead of `impl Trait`"),
        ));
    }

    // Function types take references without borrowing any.
    fn visit_type_fn_ptr(&mut self, _: &'ast syn::TypeFnPtr) {}

    fn visit_parenthesized_generic_arguments(
        &mut self,
        _: &'ast syn::ParenthesizedGenericArguments,
    ) {
    }
}
