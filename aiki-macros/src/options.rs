//! What stands in the parentheses of an attribute. A new option is a field, a line in the tables below, and a
//! line in `expand`.

use std::time::Duration;

use proc_macro2::{Span, TokenTree};
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Expr, ExprArray, Ident, LitStr, Path, Token};

use crate::duration;
use crate::name;
use crate::retry::Retry;

/// The options of an attribute, as far as they are given.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) name: Option<LitStr>,
    pub(crate) version: Option<LitStr>,
    pub(crate) retry: Option<Retry>,
    pub(crate) retry_if: Option<Expr>,
    pub(crate) time_limit: Option<Duration>,
    pub(crate) heartbeat_timeout: Option<Duration>,
    pub(crate) events: Option<ExprArray>,
    pub(crate) krate: Option<Path>,
    /// The options that were named, readable or not.
    given: Vec<Ident>,
}

/// An option: its name, and how its value is read.
pub(crate) type OptionSpec = (&'static str, fn(&mut Options, ParseStream<'_>) -> syn::Result<()>);

const NAME: OptionSpec = ("name", |options, value| parse_name(value).map(|name| options.name = Some(name)));
const VERSION: OptionSpec = ("version", |options, value| parse_name(value).map(|name| options.version = Some(name)));
const RETRY: OptionSpec = ("retry", |options, value| value.parse().map(|retry| options.retry = Some(retry)));
const RETRY_IF: OptionSpec = ("retry_if", |options, value| value.parse().map(|when| options.retry_if = Some(when)));
const TIME_LIMIT: OptionSpec =
    ("time_limit", |options, value| parse_duration(value).map(|limit| options.time_limit = Some(limit)));
const HEARTBEAT_TIMEOUT: OptionSpec =
    ("heartbeat_timeout", |options, value| parse_duration(value).map(|limit| options.heartbeat_timeout = Some(limit)));
const EVENTS: OptionSpec = ("events", |options, value| value.parse().map(|events| options.events = Some(events)));
const CRATE: OptionSpec =
    ("crate", |options, value| value.call(Path::parse_mod_style).map(|path| options.krate = Some(path)));

/// The options of `#[aiki::task]`.
pub(crate) const TASK: &[OptionSpec] = &[NAME, RETRY, RETRY_IF, TIME_LIMIT, HEARTBEAT_TIMEOUT, CRATE];
/// The options of `#[aiki::workflow]`.
pub(crate) const WORKFLOW: &[OptionSpec] = &[NAME, VERSION, RETRY, EVENTS, CRATE];

fn parse_name(value: ParseStream<'_>) -> syn::Result<LitStr> {
    let name: LitStr = value.parse()?;
    name::check(&name).map(|()| name)
}

fn parse_duration(value: ParseStream<'_>) -> syn::Result<Duration> {
    duration::parse(&value.parse()?)
}

impl Options {
    /// Reads all that can be read, and says what cannot: the rest of the program is then judged as if the
    /// mistakes had been left out.
    pub(crate) fn parse(attribute: proc_macro2::TokenStream, known: &[OptionSpec]) -> (Self, Option<syn::Error>) {
        let mut options = Self::default();
        let mut errors = Errors(None);
        let read = |input: ParseStream<'_>| {
            while !input.is_empty() {
                if let Err(error) = parse_option(&mut options, input, known) {
                    errors.add(error);
                    skip_option(input);
                }
                if let Err(error) = expect_comma(input) {
                    errors.add(error);
                    skip_option(input);
                    let _ = input.parse::<Token![,]>();
                }
            }
            Ok(())
        };
        if let Err(error) = read.parse2(attribute) {
            errors.add(error);
        }
        (options, errors.0)
    }

    /// Whether the option was named, with a value that could be read or not.
    pub(crate) fn is_given<N: ?Sized>(&self, name: &N) -> bool
    where
        Ident: PartialEq<N>,
    {
        self.given.iter().any(|given| given == name)
    }

    /// The path under which the program knows Aiki.
    pub(crate) fn krate(&self) -> Path {
        self.krate.clone().unwrap_or_else(|| syn::parse_quote!(::aiki))
    }
}

fn parse_option(options: &mut Options, input: ParseStream<'_>, known: &[OptionSpec]) -> syn::Result<()> {
    let list = || known.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let option = input
        .call(Ident::parse_any)
        .map_err(|error| syn::Error::new(error.span(), format!("expected an option out of {}", list())))?;
    let Some((_, read)) = known.iter().find(|(name, _)| option == name) else {
        let problem = format!("`{option}` is not an option here: there are {}", list());
        return Err(syn::Error::new(option.span(), problem));
    };
    if options.is_given(&option) {
        return Err(syn::Error::new(option.span(), format!("`{option}` is given twice")));
    }
    if !input.peek(Token![=]) {
        return Err(syn::Error::new(option.span(), format!("`{option}` has no value: write `{option} = ...`")));
    }
    input.parse::<Token![=]>()?;
    options.given.push(option);
    read(options, input)
}

fn expect_comma(input: ParseStream<'_>) -> syn::Result<()> {
    if input.is_empty() || input.parse::<Option<Token![,]>>()?.is_some() {
        return Ok(());
    }
    Err(input.error("expected a comma between options"))
}

/// Goes on to the next comma.
fn skip_option(input: ParseStream<'_>) {
    while !input.is_empty() && !input.peek(Token![,]) && input.parse::<TokenTree>().is_ok() {}
}

/// Several errors of one attribute, shown together.
pub(crate) struct Errors(pub(crate) Option<syn::Error>);

impl Errors {
    pub(crate) fn add(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(all) => all.combine(error),
            None => self.0 = Some(error),
        }
    }

    pub(crate) fn at(&mut self, span: Span, problem: impl std::fmt::Display) {
        self.add(syn::Error::new(span, problem));
    }
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::*;

    fn errors(attribute: proc_macro2::TokenStream, known: &[OptionSpec]) -> Vec<String> {
        Options::parse(attribute, known).1.into_iter().flatten().map(|error| error.to_string()).collect()
    }

    #[test]
    fn one_mistake_does_not_hide_the_others() {
        let found = errors(quote!(nane = "a", retry = fixed(2, "1 s"), name = "b c", name, crate = aiki2), TASK);
        assert_eq!(found.len(), 4, "{found:?}");
        assert_eq!(
            found[0],
            "`nane` is not an option here: there are `name`, `retry`, `retry_if`, `time_limit`, `heartbeat_timeout`, `crate`"
        );
        assert!(found[1].contains("`1 s` is not a duration"), "{found:?}");
        assert!(found[2].contains("the name `b c` has the character ' '"), "{found:?}");
        assert_eq!(found[3], "`name` is given twice");
    }

    #[test]
    fn what_is_right_is_kept_beside_what_is_wrong() {
        let (options, errors) = Options::parse(quote!(verion = "1", name = "a", crate = my::aiki), WORKFLOW);
        assert!(errors.is_some());
        assert_eq!(options.name.unwrap().value(), "a");
        assert_eq!(options.krate.unwrap(), syn::parse_quote!(my::aiki));
    }

    #[test]
    fn options_need_values_and_commas() {
        assert_eq!(errors(quote!(name), TASK), ["`name` has no value: write `name = ...`"]);
        assert_eq!(errors(quote!(name = "a" retry = never), TASK), ["expected a comma between options"]);
        assert_eq!(
            errors(quote!("a"), WORKFLOW),
            ["expected an option out of `name`, `version`, `retry`, `events`, `crate`"]
        );
        assert_eq!(errors(quote!(retry_if = |error| matches!(error, Some(1)), name = "a",), TASK), [""; 0]);
    }

    #[test]
    fn an_option_of_tasks_is_not_one_of_workflows() {
        let found = errors(quote!(retry_if = |_| true), WORKFLOW);
        assert!(found[0].starts_with("`retry_if` is not an option here"), "{found:?}");
    }
}
