//! From a function to its handle.

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, Ident, LitStr, Path, Type};

use crate::function::{Function, Handler, HandlerResult, Kind};
use crate::name;
use crate::options::{self, Errors, Options};

/// Expands an attribute. Mistakes become compile errors; mistakes in the options alone leave the handle in place,
/// so that nothing else is reported for them.
pub(crate) fn expand(kind: Kind, attribute: TokenStream, item: TokenStream) -> TokenStream {
    let known = match kind {
        Kind::Task => options::TASK,
        Kind::Workflow => options::WORKFLOW,
    };
    let (options, wrong) = Options::parse(attribute, known);
    let mut errors = Errors(wrong);
    let handle = build(kind, options, item, &mut errors).map_err(|error| errors.add(error)).ok();
    let errors = errors.0.map(|all| all.into_compile_error());
    quote!(#errors #handle)
}

fn build(kind: Kind, options: Options, item: TokenStream, errors: &mut Errors) -> syn::Result<TokenStream> {
    let function: Function = syn::parse2(item)?;
    let handler = Handler::read(kind, &function.signature);
    let name = options.name.clone().unwrap_or_else(|| name::of_function(&function.signature.ident));
    if options.name.is_none() {
        name::check(&name).unwrap_or_else(|error| errors.add(error));
    }
    if kind == Kind::Workflow && !options.is_given("version") {
        errors.at(Span::call_site(), "a workflow needs a version: write `#[aiki::workflow(version = \"1.0.0\")]`");
    }
    let handler = handler?;
    Ok(Handle { kind, options, function, handler, name }.tokens())
}

struct Handle {
    kind: Kind,
    options: Options,
    function: Function,
    handler: Handler,
    name: LitStr,
}

impl Handle {
    fn tokens(&self) -> TokenStream {
        let krate = self.options.krate();
        let Function { visibility, signature, body, .. } = &self.function;
        let ident = &signature.ident;
        let (for_handle, for_function) = self.attributes();
        let definition = self.definition_type(&krate);
        let define = self.define(&krate);
        let span = self.span();
        let handle = quote_spanned!(span=> #visibility struct #ident;);
        let target = quote_spanned!(span=> type Target = #definition;);
        let deprecated = for_handle.iter().any(|one| one.path().is_ident("deprecated"));
        let deprecated = deprecated.then(|| quote!(#[allow(deprecated)]));
        let registered = (self.kind == Kind::Workflow).then(|| registered(&krate, ident, deprecated.as_ref()));
        quote! {
            #(#for_handle)*
            #[allow(non_camel_case_types)]
            #[derive(::core::clone::Clone, ::core::marker::Copy)]
            #handle

            #deprecated
            impl #ident {
                #(#for_function)*
                #signature #body
            }

            #deprecated
            #[allow(unused_braces)]
            #[automatically_derived]
            impl ::core::ops::Deref for #ident {
                #target
                fn deref(&self) -> &Self::Target {
                    static __AIKI_DEFINITION: ::std::sync::LazyLock<#definition> = ::std::sync::LazyLock::new(|| #define);
                    &__AIKI_DEFINITION
                }
            }

            #deprecated
            #[automatically_derived]
            impl ::core::fmt::Debug for #ident {
                fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                    ::core::fmt::Debug::fmt(&**self, f)
                }
            }

            #deprecated
            #[automatically_derived]
            impl ::core::convert::From<#ident> for #definition {
                fn from(handle: #ident) -> Self {
                    ::core::clone::Clone::clone(&*handle)
                }
            }

            #registered
        }
    }

    /// The function's name, which is where all is shown that does not fit.
    fn span(&self) -> Span {
        Span::call_site().located_at(self.function.signature.ident.span())
    }

    /// What belongs on the handle, and what on the function.
    fn attributes(&self) -> (Vec<&Attribute>, Vec<&Attribute>) {
        let is_any = |attribute: &Attribute, names: &[&str]| names.iter().any(|name| attribute.path().is_ident(name));
        let all = &self.function.attributes;
        let both = ["allow", "warn", "deny", "forbid"];
        let handle_only = ["doc", "deprecated"];
        let for_handle = all.iter().filter(|one| is_any(one, &both) || is_any(one, &handle_only)).collect();
        let for_function = all.iter().filter(|one| !is_any(one, &handle_only)).collect();
        (for_handle, for_function)
    }

    /// Input, output and error.
    fn types(&self, krate: &Path) -> (TokenStream, TokenStream, TokenStream) {
        let input = self.handler.input.as_ref().map_or_else(|| quote!(()), |input| quote!(#input));
        match &self.handler.result {
            HandlerResult::Plain { output, error } => (input, quote!(#output), quote!(#error)),
            HandlerResult::Alias(alias) => {
                let part = |part: &str| behind_alias(krate, alias, part);
                (input, part("Output"), part("Error"))
            }
        }
    }

    fn definition_type(&self, krate: &Path) -> TokenStream {
        let (input, output, error) = self.types(krate);
        match self.kind {
            Kind::Task => quote!(#krate::Task<#input, #output, #error>),
            Kind::Workflow => quote!(#krate::WorkflowVersion<#input, #output, #error>),
        }
    }

    /// The definition as it would be written by hand.
    fn define(&self, krate: &Path) -> TokenStream {
        let (input, output, error) = self.types(krate);
        let (name, function) = (&self.name, self.call());
        let span = self.span();
        let krate = respan(krate, span);
        let retry = self.options.retry.as_ref().map(|retry| {
            let strategy = retry.to_expression(&krate);
            quote!(.retry(#strategy))
        });
        match self.kind {
            Kind::Task => {
                let retry_if = self.options.retry_if.as_ref().map(|when| quote!(.retry_if(#when)));
                let time_limit = self.options.time_limit.map(|limit| limited(quote!(time_limit), limit));
                let heartbeat = self.options.heartbeat_timeout.map(|limit| limited(quote!(heartbeat_timeout), limit));
                quote_spanned! {span=>
                    #krate::Task::<#input, #output, #error>::new(#name, #function)
                        #retry #retry_if #time_limit #heartbeat
                }
            }
            Kind::Workflow => {
                let events = self.options.events.iter().flat_map(|events| &events.elems);
                // It may be missing only where that is a compile error already.
                let version = self.options.version.as_ref().map_or_else(|| quote!(""), |version| quote!(#version));
                quote_spanned! {span=>
                    #krate::Workflow::version::<#input, #output, #error, _, _>(
                        &#krate::Workflow::new(#name), #version, #function
                    ) #retry #(.event(&#events))*
                }
            }
        }
    }

    /// The function with the arguments that a definition's handler has.
    fn call(&self) -> TokenStream {
        let ident = &self.function.signature.ident;
        let span = self.span();
        match (self.handler.context, self.handler.input.is_some()) {
            (true, true) => quote_spanned!(span=> #ident::#ident),
            (true, false) => quote_spanned!(span=> |context, ()| #ident::#ident(context)),
            (false, true) => quote_spanned!(span=> |_, input| #ident::#ident(input)),
            (false, false) => quote_spanned!(span=> |_, ()| #ident::#ident()),
        }
    }
}

/// A limit in milliseconds, which is what the attribute can say.
fn limited(method: TokenStream, limit: Duration) -> TokenStream {
    let ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    quote!(.#method(::core::time::Duration::from_millis(#ms)))
}

fn registered(krate: &Path, ident: &Ident, deprecated: Option<&TokenStream>) -> TokenStream {
    quote! {
        #deprecated
        #[automatically_derived]
        impl ::core::convert::From<#ident> for #krate::RegisteredWorkflow {
            fn from(handle: #ident) -> Self {
                #krate::WorkflowVersion::register(&handle)
            }
        }

        #deprecated
        #[automatically_derived]
        impl ::core::convert::From<&#ident> for #krate::RegisteredWorkflow {
            fn from(handle: &#ident) -> Self {
                #krate::WorkflowVersion::register(handle)
            }
        }
    }
}

fn behind_alias(krate: &Path, alias: &Type, part: &str) -> TokenStream {
    let part = Ident::new(part, alias.span());
    quote_spanned!(alias.span()=> <#alias as #krate::definition::HandlerResult>::#part)
}

/// The same tokens at another place.
fn respan(tokens: impl ToTokens, span: Span) -> TokenStream {
    tokens
        .into_token_stream()
        .into_iter()
        .map(|mut token| {
            token.set_span(span);
            token
        })
        .collect()
}
