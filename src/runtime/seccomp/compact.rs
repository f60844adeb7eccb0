//! A program of libseccomp's in fewer instructions. It compares the number of a call with every one that it knows, though most
//! neighbours get the same answer; and what the kernel takes to load a program, at each start and exec, grows with its length.
//!
//! What a program says of a number changes only at the numbers that it compares with. So it is run here for one number between
//! each two of those, and ranges of the same answer become a binary tree. Where arguments decide, the instructions that look
//! at them are taken over as they are.

use std::collections::BTreeSet;

use super::bpf::{
    Instruction, JUMP, JUMP_IF_ANY_BIT, JUMP_IF_AT_LEAST, JUMP_IF_EQUAL, JUMP_IF_GREATER, LOAD_WORD,
    OFFSET_ARCHITECTURE, OFFSET_NUMBER, RETURN, jump, jump_if, load, returning,
};

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// This value is returned.
    Value(u32),
    /// The instruction at this index looks at an argument.
    Argument(usize),
}

/// Numbers from here on, up to the next range.
type Range = (u32, Answer);

/// An instruction of the new program.
enum Step {
    New(Instruction),
    /// A jump to what was at this index.
    To(usize),
    /// What was at this index.
    Kept(usize),
}

/// A program that decides the same; `None` where it would not be shorter, or has what is not understood here. `architecture` is
/// the only one that the program is for.
pub(super) fn compact(program: &[Instruction], architecture: u32) -> Option<Vec<Instruction>> {
    let foreign = ranges(program, architecture, false)?;
    let [(_, Answer::Value(foreign))] = foreign[..] else { return None };
    let own = ranges(program, architecture, true)?;
    let mut steps = vec![
        Step::New(load(OFFSET_ARCHITECTURE)),
        Step::New(jump_if(JUMP_IF_EQUAL, architecture, 1, 0)),
        Step::New(returning(foreign)),
        Step::New(load(OFFSET_NUMBER)),
    ];
    steps.extend(tree(&own));
    steps.extend(reachable(program, &own)?.into_iter().map(Step::Kept));
    let compacted = place(program, &steps)?;
    (compacted.len() < program.len()).then_some(compacted)
}

/// The answers to all numbers, in order: of calls of the architecture (`own`), or of any other.
fn ranges(program: &[Instruction], architecture: u32, own: bool) -> Option<Vec<Range>> {
    let compares = [JUMP_IF_EQUAL, JUMP_IF_GREATER, JUMP_IF_AT_LEAST];
    let compared = program.iter().filter(|instruction| compares.contains(&instruction.code));
    // More than there are: some of these values belong to arguments.
    let mut starts: BTreeSet<u32> = compared.flat_map(|i| [i.value, i.value.saturating_add(1)]).collect();
    starts.insert(0);
    let mut found: Vec<Range> = Vec::new();
    for number in starts {
        let answer = answer(program, (architecture, own), number)?;
        if found.last().is_none_or(|(_, last)| *last != answer) {
            found.push((number, answer));
        }
    }
    Some(found)
}

/// Runs the program up to where it has an answer or needs an argument.
fn answer(program: &[Instruction], (architecture, own): (u32, bool), number: u32) -> Option<Answer> {
    let (mut at, mut loaded) = (0, None);
    loop {
        let instruction = program.get(at)?;
        let value = instruction.value;
        let decided = match (instruction.code, loaded) {
            (LOAD_WORD, _) if matches!(value, OFFSET_ARCHITECTURE | OFFSET_NUMBER) => {
                loaded = Some(value);
                at += 1;
                continue;
            }
            (LOAD_WORD, _) => return Some(Answer::Argument(at)),
            (RETURN, _) => return Some(Answer::Value(value)),
            (JUMP, _) => {
                at += 1 + value as usize;
                continue;
            }
            (JUMP_IF_EQUAL, Some(OFFSET_ARCHITECTURE)) if value == architecture => own,
            (JUMP_IF_EQUAL, Some(OFFSET_NUMBER)) => number == value,
            (JUMP_IF_GREATER, Some(OFFSET_NUMBER)) => number > value,
            (JUMP_IF_AT_LEAST, Some(OFFSET_NUMBER)) => number >= value,
            _ => return None,
        };
        at += 1 + usize::from(if decided { instruction.if_true } else { instruction.if_false });
    }
}

/// The number is loaded.
fn tree(ranges: &[Range]) -> Vec<Step> {
    if let [(_, answer)] = ranges {
        return vec![match answer {
            Answer::Value(value) => Step::New(returning(*value)),
            Answer::Argument(at) => Step::To(*at),
        }];
    }
    let (below, above) = ranges.split_at(ranges.len() / 2);
    let from = above[0].0;
    let (below, above) = (tree(below), tree(above));
    let mut steps = Vec::with_capacity(below.len() + above.len() + 2);
    if below.len() <= usize::from(u8::MAX) {
        steps.push(Step::New(jump_if(JUMP_IF_AT_LEAST, from, below.len(), 0)));
    } else {
        steps.push(Step::New(jump_if(JUMP_IF_AT_LEAST, from, 0, 1)));
        steps.push(Step::New(jump(below.len())));
    }
    steps.extend(below);
    steps.extend(above);
    steps
}

/// Where an instruction goes on.
fn next(program: &[Instruction], at: usize) -> Option<Vec<usize>> {
    let instruction = program.get(at)?;
    Some(match instruction.code {
        RETURN => Vec::new(),
        JUMP => vec![at + 1 + instruction.value as usize],
        JUMP_IF_EQUAL | JUMP_IF_GREATER | JUMP_IF_AT_LEAST | JUMP_IF_ANY_BIT => {
            vec![at + 1 + usize::from(instruction.if_true), at + 1 + usize::from(instruction.if_false)]
        }
        _ => vec![at + 1],
    })
}

/// What may be run from where arguments are looked at, in order.
fn reachable(program: &[Instruction], ranges: &[Range]) -> Option<BTreeSet<usize>> {
    let mut found = BTreeSet::new();
    let mut open: Vec<usize> = ranges
        .iter()
        .filter_map(|(_, answer)| if let Answer::Argument(at) = answer { Some(*at) } else { None })
        .collect();
    while let Some(at) = open.pop() {
        if found.insert(at) {
            open.extend(next(program, at)?);
        }
    }
    Some(found)
}

/// The new program. Jumps lead forward, and no instruction that is kept is farther from another one than it was, but one that
/// ran on to its neighbour must still have it there.
fn place(program: &[Instruction], steps: &[Step]) -> Option<Vec<Instruction>> {
    let place_of =
        |index: usize| steps.iter().position(|step| matches!(step, Step::Kept(at) if *at == index));
    let over = |from: usize, index: usize| place_of(index)?.checked_sub(from + 1);
    let short = |from: usize, index: usize| u8::try_from(over(from, index)?).ok();
    let mut placed = Vec::with_capacity(steps.len());
    for (here, step) in steps.iter().enumerate() {
        placed.push(match step {
            Step::New(instruction) => *instruction,
            Step::To(index) => jump(over(here, *index)?),
            Step::Kept(at) => {
                let kept = program[*at];
                match (kept.code, next(program, *at)?[..].as_ref()) {
                    (JUMP, [target]) => jump(over(here, *target)?),
                    (_, [if_true, if_false]) => Instruction {
                        if_true: short(here, *if_true)?,
                        if_false: short(here, *if_false)?,
                        ..kept
                    },
                    (_, [following]) if over(here, *following)? != 0 => return None,
                    _ => kept,
                }
            }
        });
    }
    Some(placed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u32 = 7;
    const BAD: u32 = 99;

    /// Numbers from 10 to 19 but 15 are let through, one after the other; 30 if an argument says so.
    fn program() -> Vec<Instruction> {
        let mut program = vec![
            load(OFFSET_ARCHITECTURE),
            jump_if(JUMP_IF_EQUAL, OWN, 1, 0),
            returning(BAD),
            load(OFFSET_NUMBER),
        ];
        for number in (10..20).filter(|number| *number != 15) {
            program.extend([jump_if(JUMP_IF_EQUAL, number, 0, 1), returning(1)]);
        }
        program.extend([
            jump_if(JUMP_IF_EQUAL, 30, 0, 3),
            load(16),
            jump_if(JUMP_IF_ANY_BIT, 4, 1, 0),
            returning(2),
            returning(3),
        ]);
        program
    }

    #[test]
    fn neighbours_with_the_same_answer_are_one_range() {
        let found = ranges(&program(), OWN, true).unwrap();
        let [no, yes] = [Answer::Value(3), Answer::Value(1)];
        let argument = Answer::Argument(program().len() - 4);
        assert_eq!(found, [(0, no), (10, yes), (15, no), (16, yes), (20, no), (30, argument), (31, no)]);
        assert_eq!(ranges(&program(), OWN, false).unwrap(), [(0, Answer::Value(BAD))]);
        let compacted = compact(&program(), OWN).unwrap();
        assert!(compacted.len() < program().len());
        assert_eq!(ranges(&compacted, OWN, true).unwrap().len(), found.len());
        assert_eq!(compacted[compacted.len() - 4..], program()[program().len() - 4..]);
    }

    #[test]
    fn what_is_not_understood_is_left_as_it_is() {
        let with = |at: usize, instruction: Instruction| {
            let mut changed = program();
            changed[at] = instruction;
            compact(&changed, OWN)
        };
        assert_eq!(with(4, jump_if(JUMP_IF_ANY_BIT, 10, 0, 1)), None, "bits of the number");
        assert_eq!(with(1, jump_if(JUMP_IF_EQUAL, OWN + 1, 1, 0)), None, "another architecture");
        assert_eq!(with(2, Instruction { code: 0x16, ..returning(0) }), None, "the accumulator returned");
        assert_eq!(with(0, Instruction { code: 0x80, ..load(0) }), None, "an unknown load");
        assert_eq!(with(3, jump(1000)), None, "a jump out of it");
        assert_eq!(compact(&compact(&program(), OWN).unwrap(), OWN), None, "nothing to gain");
    }
}
