"""A reader of PowerShell: the syntax tree of a script, and the value of functions that only compute.

No PowerShell runs here. The tree is tree-sitter's; what computes with numbers, arrays and hash tables is worked out
from it. Anything else is refused, so a test never takes a guess for a result. Integers have 64 bits, as where the
script says `[long]`; what does not fit is an error.
"""

import operator
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import tree_sitter_powershell
from tree_sitter import Language, Node, Parser

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "-eq": operator.eq, "-ne": operator.ne,
    "-lt": operator.lt, "-le": operator.le, "-gt": operator.gt, "-ge": operator.ge, "-band": operator.and_,
    "-shr": operator.rshift, "-shl": operator.lshift, "-join": lambda items, glue: glue.join(map(str, items)),
}  # fmt: skip
_BINARY = {"comparison_expression", "additive_expression", "multiplicative_expression", "bitwise_expression"}
_LEVELS = ("_expression", "pipeline", "pipeline_chain")
_CONSTANTS = {"true": True, "false": False, "null": None}
_AUTOMATIC = {*_CONSTANTS, "_", "args", "lastexitcode", "pscommandpath"}


class _Return(Exception):
    """A `return` was reached."""

    def __init__(self, value: Any) -> None:
        self.value = value


class _Continue(Exception):
    """A `continue` was reached."""


class Script:
    """A parsed script.

    Attributes:
        faults: Line and text of whatever is no PowerShell, or missing.
        functions: The functions it defines, by name.
        commands: The commands it runs, and with which parameters.
        unset: Variables, in lower case, that are read though nothing sets them: names that are misspelt.
    """

    def __init__(self, text: str) -> None:
        self._root = Parser(Language(tree_sitter_powershell.language())).parse(text.encode()).root_node
        nodes = list(_walk(self._root))
        self.faults = [
            (node.start_point.row + 1, _text(node))
            for node in nodes
            if node.type == "ERROR" or node.is_missing
        ]
        self.functions = {
            _text(node.named_children[0]): node for node in nodes if node.type == "function_statement"
        }
        self.commands: dict[str, set[str]] = {}
        for node in nodes:
            if node.type == "command" and (name := node.child_by_field_name("command_name")):
                self.commands.setdefault(_text(name), set()).update(_parameters(node))
        seen = {name for node in nodes for name in _named(node)}
        self.unset = seen - {name for node in nodes for name in _set(node)} - _AUTOMATIC
        self._nodes = nodes
        self._globals: dict[str, Any] = {}

    def define(self, name: str) -> None:
        """Gives a variable of the script the value the script assigns to it."""
        for node in self._nodes:
            if node.type == "assignment_expression" and _text(node.named_children[0]) == f"${name}":
                self._globals[name.lower()] = _Scope(self._globals).value(node.named_children[-1])
                return
        raise KeyError(name)

    def strings(self, function: str) -> list[str]:
        """The texts in single quotes in a function, in order."""
        return [
            _text(node)[1:-1]
            for node in _walk(self.functions[function])
            if node.type.startswith("verbatim_string")
        ]

    def call(self, function: str, argument: int) -> Any:
        """What a function of one number returns."""
        parameter, body = _signature(self.functions[function])
        scope = _Scope({**self._globals, parameter: argument})
        try:
            scope.run(body)
        except _Return as done:
            return done.value
        raise NotComputable(f"{function} returns nothing")


class NotComputable(Exception):
    """PowerShell that this cannot compute. It is refused: a guess would let a test pass."""


class _Scope:
    """The variables of one call."""

    def __init__(self, names: dict[str, Any]) -> None:
        self._names = names

    def run(self, node: Node) -> list[Any]:
        """Runs a statement or a block; returns what it leaves on the pipeline."""
        match node.type:
            case "comment" | "{" | "}":
                return []
            case "script_block" | "script_block_body" | "statement_list" | "statement_block":
                return [item for child in node.named_children for item in self.run(child)]
            case "if_statement":
                return self._if(node)
            case "foreach_statement":
                return self._foreach(node)
            case "for_statement":
                start, condition, step, block = node.named_children
                self.value(start)
                while self.value(condition):
                    self._once(block)
                    self.value(step)
                return []
            case "flow_control_statement":
                if _text(node.children[0]) == "continue":
                    raise _Continue
                raise _Return(self.value(node.named_children[0]))
            case _:
                value = self.value(node)
                return [] if value is None else [value]

    def _if(self, node: Node) -> list[Any]:
        condition, block, *rest = node.named_children
        if rest:
            raise NotComputable(_text(node))
        return self.run(block) if self.value(condition) else []

    def _foreach(self, node: Node) -> list[Any]:
        variable, items, block = node.named_children
        left = []
        for item in self.value(items):
            self._names[_text(variable)[1:].lower()] = item
            left += self._once(block)
        return left

    def _once(self, block: Node) -> list[Any]:
        try:
            return self.run(block)
        except _Continue:
            return []

    def value(self, node: Node) -> Any:
        """The value of an expression."""
        node, kind, children = _core(node)
        match kind:
            case "decimal_integer_literal":
                return _fits(int(_text(node)))
            case "string_literal" if children[0].type.startswith("verbatim_string"):
                return _text(node)[1:-1].replace("''", "'")
            case "variable":
                name = _text(node)[1:].lower()
                return _CONSTANTS[name] if name in _CONSTANTS else self._names[name]
            case "assignment_expression":
                return self._assign(node, children)
            case "foreach_statement":
                return self._foreach(node)
            case "cast_expression" if _text(children[0]).lower() == "[long]":
                return self.value(children[1])
            case "expression_with_unary_operator" if _text(node).startswith("-"):
                return _fits(-self.value(children[-1]))
            case "member_access":
                owner, name = self.value(children[0]), _text(children[1]).lower()
                return len(owner) if isinstance(owner, list) and name == "count" else owner[name]
            case "element_access":
                return self.value(children[0])[self.value(children[1])]
            case "array_expression":
                items = [self.value(child) for child in children]
                return items[0] if len(items) == 1 and isinstance(items[0], list) else items
            case "hash_literal_expression":
                entries = (entry for entry in _walk(node, into=node) if entry.type == "hash_entry")
                return {
                    _text(one.named_children[0]).lower(): self.value(one.named_children[1]) for one in entries
                }
            case "array_literal_expression" if len(children) > 1:
                return [self.value(child) for child in children]
            case "logical_expression" if len(children) == 2:
                sign = _text(node.children[1])
                first = bool(self.value(children[0]))
                if sign not in {"-and", "-or"}:
                    raise NotComputable(_text(node))
                return first if first == (sign == "-or") else bool(self.value(children[1]))
            case _ if kind in _BINARY and len(node.children) == 3:
                left, word, right = node.children
                result = _OPERATORS[_text(word)](self.value(left), self.value(right))
                return _fits(result) if isinstance(result, int) else result
            case _ if len(children) == 1 and kind != "command":
                return self.value(children[0])
        raise NotComputable(f"{kind}: {_text(node)}")

    def _assign(self, node: Node, children: list[Node]) -> None:
        target, word, source = children
        name, value = _text(target)[1:].lower(), self.value(source)
        if _text(word) == "+=":
            value = _fits(self._names[name] + value)
        elif _text(word) != "=":
            raise NotComputable(_text(node))
        self._names[name] = value


def _fits(number: int) -> int:
    if not -(1 << 63) <= number < 1 << 63:
        raise OverflowError(number)
    return number


@cache
def _signature(function: Node) -> tuple[str, Node]:
    """The name of a function's only parameter, and its body."""
    (parameter,) = (one for one in _walk(function) if one.type == "script_parameter")
    name = _text(next(one for one in _walk(parameter) if one.type == "variable"))
    return name[1:].lower(), next(one for one in function.named_children if one.type == "script_block")


def _parameters(command: Node) -> Iterator[str]:
    """The names of parameters that stand in a command itself, not in a block or a string of it."""
    elements = command.child_by_field_name("command_elements")
    return (
        (_text(one) for one in elements.children if one.type == "command_parameter") if elements else iter(())
    )


def _named(node: Node) -> Iterator[str]:
    """The name of a variable, without its scope."""
    if node.type in {"variable", "braced_variable"}:
        yield _text(node).strip("$@{}").removeprefix("script:").lower()


def _set(node: Node) -> Iterator[str]:
    """The names of the variables that a node of the tree sets."""
    if node.type in {"assignment_expression", "foreach_statement", "script_parameter"}:
        targets = node.named_children if node.type == "script_parameter" else node.named_children[:1]
        yield from (name for target in targets for one in _walk(target) for name in _named(one))


@cache
def _core(node: Node) -> tuple[Node, str, list[Node]]:
    """The node beneath the precedence levels that wrap a simple expression, its type, and its children."""
    while node.child_count == 1 and node.named_child_count == 1 and node.type.endswith(_LEVELS):
        node = node.children[0]
    return node, node.type, [child for child in node.named_children if child.type != "comment"]


@cache
def _text(node: Node) -> str:
    return (node.text or b"").decode()


def _walk(node: Node, into: Node | None = None) -> Iterator[Node]:
    """The node and all beneath it; with ``into``, hash tables inside of that one are left alone."""
    yield node
    for child in node.children:
        if into is None or child.type != "hash_literal_expression":
            yield from _walk(child, into)
