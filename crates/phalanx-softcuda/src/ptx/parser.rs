//! Reads the statements of a module.

use super::lexer::{Placed, Token, tokens};
use super::module::{Entry, Module, Operand, Param, Space, Statement, Variable};
use super::types::Type;
use std::collections::BTreeMap;

/// Why a module cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {need} is needed, not {got:?}")]
pub(crate) struct PtxError {
    pub(crate) line: u32,
    pub(crate) need: &'static str,
    pub(crate) got: String,
}

/// Reads a module.
///
/// # Errors
/// [`PtxError`] at the first thing that is not understood.
pub(crate) fn parse(text: &str) -> Result<Module, PtxError> {
    let tokens = tokens(text).map_err(|line| {
        let got = text.lines().nth(line as usize - 1).unwrap_or_default().to_owned();
        PtxError { line, need: "PTX", got }
    })?;
    let mut parser = Parser { tokens: &tokens, at: 0, module: Module::default() };
    while parser.at < tokens.len() {
        parser.directive()?;
    }
    Ok(parser.module)
}

/// Where names of registers are valid.
#[derive(Default)]
struct Scope {
    /// One register a name.
    single: BTreeMap<String, usize>,
    /// `%r<10>`: the first register and their number, by prefix.
    ranges: BTreeMap<String, (usize, usize)>,
}

/// What is known in the middle of a body.
#[derive(Default)]
struct Body {
    entry: Entry,
    scopes: Vec<Scope>,
    source: Option<(u32, u32)>,
}

impl Body {
    fn register(&self, name: &str) -> Option<usize> {
        self.scopes.iter().rev().find_map(|scope| {
            scope.single.get(name).copied().or_else(|| {
                let prefix = name.trim_end_matches(|c: char| c.is_ascii_digit());
                let (first, count) = scope.ranges.get(prefix)?;
                let number: usize = name[prefix.len()..].parse().ok()?;
                (number < *count).then_some(first + number)
            })
        })
    }
}

struct Parser<'a> {
    tokens: &'a [Placed<'a>],
    at: usize,
    module: Module,
}

type Parsed<T> = Result<T, PtxError>;

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).map(|(token, _)| *token)
    }

    fn line(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |(_, line)| *line)
    }

    fn next(&mut self) -> Option<Token<'a>> {
        let token = self.peek();
        self.at += 1;
        token
    }

    /// The error that something else is needed here.
    fn needs<T>(&self, need: &'static str) -> Parsed<T> {
        let got = self.peek().map_or("the end".to_owned(), |token| match token {
            Token::Word(text) | Token::Text(text) => text.to_owned(),
            Token::Mark(mark) => char::from(mark).to_string(),
            other => format!("{other:?}"),
        });
        Err(PtxError { line: self.line(), need, got })
    }

    fn takes(&mut self, mark: u8) -> bool {
        let found = self.peek() == Some(Token::Mark(mark));
        self.at += usize::from(found);
        found
    }

    fn mark(&mut self, mark: u8, name: &'static str) -> Parsed<()> {
        if self.takes(mark) { Ok(()) } else { self.needs(name) }
    }

    fn word(&mut self, need: &'static str) -> Parsed<&'a str> {
        match self.peek() {
            Some(Token::Word(word)) => {
                self.at += 1;
                Ok(word)
            }
            _ => self.needs(need),
        }
    }

    fn integer(&mut self) -> Parsed<u64> {
        let negative = self.takes(b'-');
        match self.peek() {
            Some(Token::Integer(value)) => {
                self.at += 1;
                Ok(if negative { value.wrapping_neg() } else { value })
            }
            _ => self.needs("an integer"),
        }
    }

    fn small(&mut self) -> Parsed<u32> {
        let value = self.integer()?;
        u32::try_from(value).or_else(|_| self.needs("a number of 32 bits"))
    }

    /// Skips what stands between braces, or up to a semicolon where there are none.
    fn skip(&mut self) {
        let mut depth = 0_usize;
        while let Some(token) = self.next() {
            match token {
                Token::Mark(b'{') => depth += 1,
                Token::Mark(b'}') => depth = depth.saturating_sub(1),
                Token::Mark(b';') if depth == 0 => return,
                _ => continue,
            }
            if depth == 0 {
                return;
            }
        }
    }

    fn skip_line(&mut self) {
        let line = self.line();
        while self.at < self.tokens.len() && self.line() == line {
            self.at += 1;
        }
    }

    /// Something outside functions.
    fn directive(&mut self) -> Parsed<()> {
        match self.word("a directive")? {
            ".version" => {
                let major = self.small()?;
                let minor = self.word("a version")?;
                self.module.version = (major, minor.trim_start_matches('.').parse().unwrap_or_default());
            }
            ".target" => {
                let target = self.word("a target")?;
                let digits: String = target.chars().filter(char::is_ascii_digit).collect();
                self.module.target = digits.parse().or_else(|_| self.needs("a target"))?;
                while self.takes(b',') {
                    self.word("a target")?;
                }
            }
            ".address_size" if self.integer()? == 64 => {}
            ".address_size" => return self.needs("addresses of 64 bits"),
            ".file" => {
                let line = self.line();
                let number = self.small()?;
                if let Some(Token::Text(name)) = self.next() {
                    self.module.files.insert(number, name.to_owned());
                }
                if self.at < self.tokens.len() && self.line() == line {
                    self.skip_line();
                }
            }
            ".section" | ".pragma" | ".alias" => self.skip(),
            ".visible" | ".extern" | ".weak" | ".common" => {}
            ".func" => self.skip(),
            ".entry" => {
                let entry = self.entry()?;
                self.module.entries.push(entry);
            }
            word => match Space::parse(word.trim_start_matches('.')) {
                Some(space) => {
                    let variables = self.variables(space)?;
                    self.module.variables.extend(variables);
                }
                None => {
                    self.at -= 1;
                    return self.needs("a directive");
                }
            },
        }
        Ok(())
    }

    /// What follows a state space: `.align 4 .b8 name[12] = {1, 2};`.
    fn variables(&mut self, space: Space) -> Parsed<Vec<Variable>> {
        let (mut align, mut vector) = (0, 1);
        let ty = loop {
            match self.word("a type")? {
                ".align" => align = self.small()?,
                ".v2" => vector = 2,
                ".v4" => vector = 4,
                ".attribute" => {
                    while !self.takes(b')') {
                        self.at += 1;
                    }
                }
                word => match Type::parse(word.trim_start_matches('.')) {
                    Some(ty) => break ty,
                    None => {
                        self.at -= 1;
                        return self.needs("a type");
                    }
                },
            }
        };
        let mut found = Vec::new();
        loop {
            let name = self.word("a name")?.to_owned();
            let mut bytes = ty.bytes() * vector;
            while self.takes(b'[') {
                if self.takes(b']') {
                    bytes = 0;
                } else {
                    bytes *= self.small()?;
                    self.mark(b']', "]")?;
                }
            }
            let mut init = Vec::new();
            if self.takes(b'=') {
                self.values(ty, &mut init)?;
            }
            found.push(Variable { name, space, align: align.max(ty.bytes()), bytes, init });
            if !self.takes(b',') {
                break;
            }
        }
        self.mark(b';', ";")?;
        Ok(found)
    }

    /// `5`, or `{1, {2, 3}}`.
    fn values(&mut self, ty: Type, init: &mut Vec<u8>) -> Parsed<()> {
        if self.takes(b'{') {
            while !self.takes(b'}') {
                self.values(ty, init)?;
                self.takes(b',');
            }
            return Ok(());
        }
        let bits = match self.peek() {
            Some(Token::Single(bits)) => {
                self.at += 1;
                u64::from(bits)
            }
            Some(Token::Double(bits)) => {
                self.at += 1;
                bits
            }
            _ => self.integer()?,
        };
        init.extend_from_slice(&bits.to_le_bytes()[..ty.bytes().min(8) as usize]);
        Ok(())
    }

    fn entry(&mut self) -> Parsed<Entry> {
        let mut body = Body::default();
        body.entry.name = self.word("the name of a kernel")?.to_owned();
        if self.takes(b'(') {
            self.params(&mut body.entry)?;
        }
        while let Some(Token::Word(word)) = self.peek() {
            self.at += 1;
            match word {
                ".maxntid" => body.entry.most_threads = Some(self.axes()?),
                ".reqntid" => body.entry.exact_threads = Some(self.axes()?),
                ".minnctapersm" | ".maxnreg" | ".maxnctapersm" => drop(self.integer()?),
                ".pragma" => self.skip(),
                _ => {
                    self.at -= 1;
                    return self.needs("a directive of a kernel");
                }
            }
        }
        self.mark(b'{', "a body")?;
        body.scopes.push(Scope::default());
        while !body.scopes.is_empty() {
            self.statement(&mut body)?;
        }
        Ok(body.entry)
    }

    fn params(&mut self, entry: &mut Entry) -> Parsed<()> {
        let mut end = 0_u32;
        while !self.takes(b')') {
            let mut align = 0;
            let mut ty = None;
            let name = loop {
                match self.word("a parameter")? {
                    ".param" | ".ptr" | ".global" | ".shared" | ".const" | ".local" => {}
                    ".align" => align = self.small()?,
                    word => match Type::parse(word.trim_start_matches('.')) {
                        Some(found) if word.starts_with('.') => ty = Some(found),
                        _ => break word.to_owned(),
                    },
                }
            };
            let Some(ty) = ty else { return self.needs("the type of a parameter") };
            let mut bytes = ty.bytes();
            if self.takes(b'[') {
                bytes *= self.small()?;
                self.mark(b']', "]")?;
            }
            // the alignment of what a `.ptr` points at is none of the parameter's
            let align = if bytes == ty.bytes() { ty.bytes() } else { align.max(ty.bytes()) };
            let offset = end.next_multiple_of(align);
            end = offset + bytes;
            entry.params.push(Param { name, offset, bytes });
            self.takes(b',');
        }
        Ok(())
    }

    /// `256, 1, 1`, whose last numbers may be missing.
    fn axes(&mut self) -> Parsed<[u32; 3]> {
        let mut axes = [1; 3];
        for axis in &mut axes {
            *axis = self.small()?;
            if !self.takes(b',') {
                break;
            }
        }
        Ok(axes)
    }

    /// Something inside a body.
    fn statement(&mut self, body: &mut Body) -> Parsed<()> {
        match self.peek() {
            Some(Token::Mark(b'{')) => {
                self.at += 1;
                body.scopes.push(Scope::default());
            }
            Some(Token::Mark(b'}')) => {
                self.at += 1;
                body.scopes.pop();
            }
            Some(Token::Mark(b';')) => self.at += 1,
            Some(Token::Mark(b'@')) => self.instruction(body)?,
            Some(Token::Word(word)) => match word {
                ".reg" => self.registers(body)?,
                ".loc" => {
                    self.at += 1;
                    let (file, line) = (self.small()?, self.small()?);
                    body.source = Some((file, line));
                    // column, and where it is inlined: all on this line
                    let here = self.tokens[self.at - 1].1;
                    while self.at < self.tokens.len() && self.line() == here {
                        self.at += 1;
                    }
                }
                ".pragma" | ".param" => self.skip(),
                _ if self.tokens.get(self.at + 1).map(|(token, _)| *token) == Some(Token::Mark(b':')) => {
                    self.at += 2;
                    self.label(word, body)?;
                }
                _ if word.starts_with('.') => match Space::parse(&word[1..]) {
                    Some(space) => {
                        self.at += 1;
                        let variables = self.variables(space)?;
                        body.entry.variables.extend(variables);
                    }
                    None => return self.needs("a statement"),
                },
                _ => self.instruction(body)?,
            },
            _ => return self.needs("a statement"),
        }
        Ok(())
    }

    /// What follows a label: anything, or the targets that it is the name of.
    fn label(&mut self, name: &str, body: &mut Body) -> Parsed<()> {
        if self.peek() != Some(Token::Word(".branchtargets")) {
            let taken = body.entry.labels.insert(name.to_owned(), body.entry.body.len());
            return if taken.is_none() { Ok(()) } else { self.needs("a new label") };
        }
        self.at += 1;
        let mut targets = Vec::new();
        while !self.takes(b';') {
            targets.push(self.word("a label")?.to_owned());
            self.takes(b',');
        }
        body.entry.tables.insert(name.to_owned(), targets);
        Ok(())
    }

    /// `.reg .b32 %r<10>;` or `.reg .pred p, q;`.
    fn registers(&mut self, body: &mut Body) -> Parsed<()> {
        self.at += 1;
        let word = self.word("a type")?;
        let Some(ty) = Type::parse(word.trim_start_matches('.')) else {
            self.at -= 1;
            return self.needs("a type");
        };
        while !self.takes(b';') {
            let name = self.word("a register")?.to_owned();
            let first = body.entry.registers.len();
            let Some(scope) = body.scopes.last_mut() else { return self.needs("a body") };
            let mut count = 1;
            if self.takes(b'<') {
                let Some(Token::Integer(number)) = self.next() else { return self.needs("a number") };
                self.mark(b'>', ">")?;
                count = usize::try_from(number).unwrap_or_default();
                scope.ranges.insert(name, (first, count));
            } else {
                scope.single.insert(name, first);
            }
            body.entry.registers.extend(std::iter::repeat_n(ty, count));
            self.takes(b',');
        }
        Ok(())
    }

    fn instruction(&mut self, body: &mut Body) -> Parsed<()> {
        let mut guard = None;
        if self.takes(b'@') {
            let negated = self.takes(b'!');
            let name = self.word("a predicate")?;
            let Some(register) = body.register(name) else {
                self.at -= 1;
                return self.needs("a predicate");
            };
            guard = Some((register, negated));
        }
        let line = self.line();
        let opcode = self.word("an instruction")?.to_owned();
        let mut operands = Vec::new();
        while !self.takes(b';') {
            operands.push(self.operand(body)?);
            if !self.takes(b',') && self.peek() != Some(Token::Mark(b';')) {
                return self.needs("a comma");
            }
        }
        body.entry.body.push(Statement { guard, opcode, operands, line, source: body.source });
        Ok(())
    }

    fn operand(&mut self, body: &Body) -> Parsed<Operand> {
        let first = self.simple(body)?;
        if self.takes(b'|') {
            let second = self.simple(body)?;
            return Ok(Operand::Pair(Box::new(first), Box::new(second)));
        }
        Ok(first)
    }

    fn simple(&mut self, body: &Body) -> Parsed<Operand> {
        let Some(token) = self.peek() else { return self.needs("an operand") };
        match token {
            Token::Single(bits) => {
                self.at += 1;
                Ok(Operand::Single(bits))
            }
            Token::Double(bits) => {
                self.at += 1;
                Ok(Operand::Double(bits))
            }
            Token::Integer(_) | Token::Mark(b'-') => Ok(Operand::Integer(self.integer()?)),
            Token::Mark(b'{') => self.list(b'}', body),
            Token::Mark(b'(') => self.list(b')', body),
            Token::Mark(b'[') => {
                self.at += 1;
                let base = match self.simple(body)? {
                    Operand::Symbol(name, offset) => {
                        self.mark(b']', "]")?;
                        return Ok(Operand::Address(Box::new(Operand::Symbol(name, 0)), offset));
                    }
                    base => base,
                };
                let offset = self.offset()?;
                self.mark(b']', "]")?;
                Ok(Operand::Address(Box::new(base), offset))
            }
            Token::Mark(b'!') => {
                self.at += 1;
                match self.simple(body)? {
                    Operand::Register(register) => Ok(Operand::Not(register)),
                    _ => self.needs("a predicate"),
                }
            }
            Token::Word("_") => {
                self.at += 1;
                Ok(Operand::Nothing)
            }
            Token::Word(word) => {
                self.at += 1;
                if let Some(register) = body.register(word) {
                    return Ok(Operand::Register(register));
                }
                if word.starts_with('%') || word == "WARP_SZ" {
                    return Ok(Operand::Special(word.to_owned()));
                }
                let offset = self.offset()?;
                Ok(Operand::Symbol(word.to_owned(), offset))
            }
            _ => self.needs("an operand"),
        }
    }

    /// `+ 8`, `+-8`, `-8` or nothing.
    fn offset(&mut self) -> Parsed<i64> {
        if self.takes(b'+') || self.peek() == Some(Token::Mark(b'-')) {
            return Ok(self.integer()?.cast_signed());
        }
        Ok(0)
    }

    fn list(&mut self, end: u8, body: &Body) -> Parsed<Operand> {
        self.at += 1;
        let mut operands = Vec::new();
        while !self.takes(end) {
            operands.push(self.operand(body)?);
            self.takes(b',');
        }
        Ok(Operand::Vector(operands))
    }
}

#[cfg(test)]
mod tests {
    use super::{Operand, Space, parse};

    const TEXT: &str = r#"
.version 8.8
.target sm_80
.address_size 64
.extern .shared .align 16 .b8 dyn[];
.const .align 4 .b8 table[8] = {1, 2, 0xff};
.visible .entry add(
  .param .u64 .ptr .align 16 add_param_0,
  .param .align 4 .b8 add_param_1[12],
  .param .f64 add_param_2
)
.maxntid 256, 1, 1
{
  .reg .pred %p<2>;
  .reg .b32 %r<4>;
  .shared .align 4 .b8 tile[64];
  .loc 1 7 3
  mov.u32 %r1, %tid.x;
  .loc 1 8 3, function_name $L__info0, inlined_at 1 20 3
  @!%p1 bra $L__BB0_1;
  { .reg .b32 t; ld.shared.b32 t, [tile+8]; mov.b32 %r2, t; }
$L__BB0_1:
  ret;
}
.file 1 "add.cu"
"#;

    #[test]
    fn a_module_is_read() {
        let module = parse(TEXT).unwrap();
        assert_eq!((module.version, module.target, &*module.files[&1]), ((8, 8), 80, "add.cu"));
        assert_eq!(module.variables[1].init, [1, 2, 255]);
        let add = &module.entries[0];
        let offsets: Vec<_> = add.params.iter().map(|param| (param.offset, param.bytes)).collect();
        assert_eq!(offsets, [(0, 8), (8, 12), (24, 8)]);
        assert_eq!(add.most_threads, Some([256, 1, 1]));
        assert_eq!((add.variables[0].space, add.variables[0].bytes), (Space::Shared, 64));
        assert_eq!(add.body[0].operands[1], Operand::Special("%tid.x".to_owned()));
        assert_eq!((add.body[1].guard, add.body[1].source), (Some((1, true)), Some((1, 8))));
        assert_eq!(
            add.body[2].operands[1],
            Operand::Address(Box::new(Operand::Symbol("tile".to_owned(), 0)), 8)
        );
        assert_eq!(add.body[3].operands, [Operand::Register(4), Operand::Register(6)]);
        assert_eq!(add.labels["$L__BB0_1"], 4);
    }

    #[test]
    fn what_is_not_ptx_is_named_with_its_line() {
        let error = parse(".version 8.8\n.nonsense 3\n").unwrap_err();
        assert_eq!(error.to_string(), "line 2: a directive is needed, not \".nonsense\"");
    }
}
