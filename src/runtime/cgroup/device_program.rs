//! The program that decides over devices in cgroup2, compiled from the rules.
//!
//! Its only argument points to `struct bpf_cgroup_dev_ctx` of `<linux/bpf.h>`: access and kind
//! in one word, major, minor. It answers 1 to allow, 0 to deny. The last rule for a device and
//! one kind of access is the one that counts, so rules are looked at backwards, with the accesses
//! not decided yet kept in a register.

use sys::bpf::Instruction;

use crate::cgroup::device_rules::{FULL, Kind, Rule};

const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const UNDECIDED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// `BPF_LDX | BPF_MEM | BPF_W`.
const LOAD_WORD: u8 = 0x61;
/// `BPF_ALU | BPF_MOV | BPF_X`, of 32 bits.
const MOVE_REGISTER: u8 = 0xbc;
/// `BPF_ALU | BPF_AND | BPF_K`.
const AND: u8 = 0x54;
/// `BPF_ALU | BPF_RSH | BPF_K`.
const SHIFT_RIGHT: u8 = 0x74;
/// `BPF_ALU64 | BPF_MOV | BPF_K`.
const MOVE: u8 = 0xb7;
/// `BPF_JMP32 | BPF_JNE | BPF_K`.
const JUMP_UNLESS_EQUAL: u8 = 0x56;
/// `BPF_JMP32 | BPF_JSET | BPF_K`.
const JUMP_IF_ANY_BIT: u8 = 0x46;
/// `BPF_JMP | BPF_JA`.
const JUMP: u8 = 0x05;
/// `BPF_JMP | BPF_EXIT`.
const EXIT: u8 = 0x95;

/// `BPF_DEVCG_DEV_BLOCK` and `BPF_DEVCG_DEV_CHAR`.
fn kind_number(kind: Kind) -> i32 {
    match kind {
        Kind::Block => 1,
        Kind::Character => 2,
    }
}

fn instruction(code: u8, registers: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers,
        offset,
        immediate,
    }
}

fn load(register: u8, offset: i16) -> Instruction {
    instruction(LOAD_WORD, register | CONTEXT << 4, offset, 0)
}

fn answer(allowed: bool) -> [Instruction; 2] {
    [
        instruction(MOVE, ANSWER, 0, i32::from(allowed)),
        instruction(EXIT, 0, 0, 0),
    ]
}

/// Compiles `rules`. What no rule is about is denied.
pub fn compile(rules: &[Rule]) -> Vec<Instruction> {
    let mut program = vec![
        load(KIND, 0),
        instruction(MOVE_REGISTER, UNDECIDED | KIND << 4, 0, 0),
        instruction(SHIFT_RIGHT, UNDECIDED, 0, 16),
        instruction(AND, KIND, 0, 0xffff),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    for rule in rules.iter().rev() {
        if rule.is_for_all() {
            // Nothing before it counts, and the verifier refuses what can never run.
            program.extend(answer(rule.allow));
            return program;
        }
        program.extend(compile_one(rule));
    }
    program.extend(answer(false));
    program
}

fn compile_one(rule: &Rule) -> Vec<Instruction> {
    let access = i32::from(rule.access);
    let mut decision = Vec::new();
    if rule.access != FULL {
        if rule.allow {
            decision.push(instruction(AND, UNDECIDED, 0, !access));
            // Over the answer, to the next rule, while something is undecided.
            decision.push(instruction(JUMP_UNLESS_EQUAL, UNDECIDED, 2, 0));
        } else {
            decision.push(instruction(JUMP_IF_ANY_BIT, UNDECIDED, 1, access));
            decision.push(instruction(JUMP, 0, 2, 0));
        }
    }
    decision.extend(answer(rule.allow));
    let conditions = [
        (KIND, rule.kind.map(kind_number)),
        (MAJOR, rule.major.map(u32::cast_signed)),
        (MINOR, rule.minor.map(u32::cast_signed)),
    ];
    let mut code = decision;
    for (register, value) in conditions.into_iter().rev() {
        if let Some(value) = value {
            // A rule is never longer than a few instructions.
            let over = i16::try_from(code.len()).unwrap_or(i16::MAX);
            code.insert(0, instruction(JUMP_UNLESS_EQUAL, register, over, value));
        }
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::device_rules::{MKNOD, READ, WRITE, parse};
    use crate::cgroup::fake::rule;
    use crate::spec::DeviceRule;

    /// Runs a program as the kernel would.
    fn allowed(program: &[Instruction], kind: Kind, major: u32, minor: u32, access: u8) -> bool {
        let context = [
            u32::from(access) << 16 | kind_number(kind).cast_unsigned(),
            major,
            minor,
        ];
        let mut registers = [u64::MAX; 11];
        let mut at = 0usize;
        loop {
            let step = program[at];
            let (to, from) = (
                usize::from(step.registers & 15),
                usize::from(step.registers >> 4),
            );
            let value = step.immediate.cast_unsigned();
            let low = registers[to] as u32;
            let mut jump = false;
            match step.code {
                LOAD_WORD => registers[to] = u64::from(context[step.offset as usize / 4]),
                MOVE_REGISTER => registers[to] = u64::from(registers[from] as u32),
                AND => registers[to] = u64::from(low & value),
                SHIFT_RIGHT => registers[to] = u64::from(low >> value),
                MOVE => registers[to] = step.immediate as u64,
                JUMP_UNLESS_EQUAL => jump = low != value,
                JUMP_IF_ANY_BIT => jump = low & value != 0,
                JUMP => jump = true,
                EXIT => return registers[usize::from(ANSWER)] == 1,
                other => panic!("unknown instruction {other:#x}"),
            }
            at += 1;
            if jump {
                at += usize::try_from(step.offset).unwrap();
            }
        }
    }

    /// The same by the words of the specification: of the rules for a device and one access the
    /// last one counts.
    fn allowed_by_rules(rules: &[Rule], kind: Kind, major: u32, minor: u32, access: u8) -> bool {
        let is_about = |rule: &&Rule, bit: u8| {
            rule.kind.is_none_or(|wanted| wanted == kind)
                && rule.major.is_none_or(|wanted| wanted == major)
                && rule.minor.is_none_or(|wanted| wanted == minor)
                && rule.access & bit != 0
        };
        [MKNOD, READ, WRITE]
            .into_iter()
            .filter(|bit| access & bit != 0)
            .all(|bit| {
                let last = rules.iter().rev().find(|rule| is_about(rule, bit));
                last.is_some_and(|rule| rule.allow)
            })
    }

    fn rule_sets() -> Vec<Vec<DeviceRule>> {
        vec![
            vec![],
            vec![rule(false, "a", -1, -1, "rwm")],
            vec![rule(true, "a", -1, -1, "rwm"), rule(false, "b", 8, -1, "w")],
            vec![rule(false, "a", -1, -1, ""), rule(true, "c", 10, 200, "rw")],
            vec![
                rule(true, "c", 10, -1, "rwm"),
                rule(false, "c", 10, 200, "w"),
                rule(true, "b", -1, 1, "r"),
                rule(true, "", 7, -1, "r"),
                rule(true, "b", 7, -1, "w"),
                rule(false, "", -1, 2, "m"),
                rule(true, "c", 4_294_967_295, 4_000_000_000, "r"),
            ],
        ]
    }

    #[test]
    fn the_program_says_what_the_rules_say() {
        let numbers = [0, 1, 2, 3, 5, 7, 8, 10, 136, 200, 4_000_000_000, u32::MAX];
        for rules in rule_sets() {
            let rules = parse(&rules).unwrap();
            let program = compile(&rules);
            for kind in [Kind::Block, Kind::Character] {
                for major in numbers {
                    for minor in numbers {
                        for access in 1..=FULL {
                            assert_eq!(
                                allowed(&program, kind, major, minor, access),
                                allowed_by_rules(&rules, kind, major, minor, access),
                                "{kind:?} {major}:{minor} {access} of {rules:?}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_kernel_accepts_the_programs() {
        for rules in rule_sets() {
            let program = compile(&parse(&rules).unwrap());
            match sys::bpf::load_device_program(&program) {
                // Not permitted to load any: nothing can be learnt here.
                Err(error) if matches!(error.raw_os_error(), Some(1 | 38)) => return,
                other => drop(other.unwrap()),
            }
        }
    }
}
