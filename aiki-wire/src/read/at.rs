//! Places in an input.

use std::fmt;

/// Where a value stands in the input.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

/// One step down from the value around.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// The input itself.
    Root,
    /// The value under a key.
    Key(&'a str),
    /// An element of a list.
    Index(usize),
}

impl<'a> At<'a> {
    /// The input itself.
    pub const ROOT: At<'static> = At { parent: None, step: Step::Root };

    /// A place below this one.
    pub fn below(&'a self, step: Step<'a>) -> At<'a> {
        At { parent: Some(self), step }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.write(f)?;
        }
        let first = self.parent.is_none_or(|parent| matches!(parent.step, Step::Root));
        match self.step {
            Step::Root => Ok(()),
            Step::Key(key) if first => f.write_str(key),
            Step::Key(key) => write!(f, ".{key}"),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if matches!(self.step, Step::Root) {
            return f.write_str("the input");
        }
        f.write_str("`")?;
        self.write(f)?;
        f.write_str("`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_like_javascript() {
        let options = At::ROOT.below(Step::Key("references"));
        let second = options.below(Step::Index(1));
        assert_eq!(second.below(Step::Key("name")).to_string(), "`references[1].name`");
        assert_eq!(At::ROOT.to_string(), "the input");
        assert_eq!(At::ROOT.below(Step::Index(0)).to_string(), "`[0]`");
    }
}
