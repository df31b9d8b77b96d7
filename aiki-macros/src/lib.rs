//! Attributes.
mod duration;
mod expand;
mod function;
mod name;
mod options;
mod retry;

use proc_macro::TokenStream;

use function::Kind;

/// Task.
#[proc_macro_attribute]
pub fn task(attribute: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(Kind::Task, attribute.into(), item.into()).into()
}

/// Workflow.
#[proc_macro_attribute]
pub fn workflow(attribute: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(Kind::Workflow, attribute.into(), item.into()).into()
}
