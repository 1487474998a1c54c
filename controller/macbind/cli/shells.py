"""What makes bash, zsh and fish complete `macbind`: a script for each, which asks `macbind` itself."""

from __future__ import annotations

from enum import StrEnum

COMPLETE_VARIABLE = "_MACBIND_COMPLETE"
"""The environment variable by which a shell asks for words."""
FILE_OPTIONS = ("--config", "--socket", "--user-data", "--dir", "--textfile")
"""Options that take a path: the shell completes these itself."""


class Shell(StrEnum):
    """A shell that can be taught."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


_BASH = r"""# bash completion of macbind, printed by `macbind completion bash`
_macbind() {
    local line=${COMP_LINE:0:COMP_POINT} cur before
    local -a words
    IFS=$' \t\n' read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=('')
    local at=$((${#words[@]} - 1))
    cur=${words[at]} before=${words[at - 1]}
    case $before in
        @FILES@) compopt -o default; COMPREPLY=(); return ;;
    esac
    local IFS=$'\n'
    COMPREPLY=($(COMP_WORDS=$line COMP_CWORD=$at _MACBIND_COMPLETE=complete_bash "$1" 2>/dev/null))
    # bash begins a new word after each : and =, so what stands before the last of them is there already.
    local breaks=${COMP_WORDBREAKS//[^:=]/} head
    if [[ -n $breaks && $cur == *["$breaks"]* ]]; then
        head=${cur%"${cur##*["$breaks"]}"}
        COMPREPLY=("${COMPREPLY[@]#"$head"}")
    fi
}
complete -F _macbind macbind
"""

_ZSH = r"""#compdef macbind
# zsh completion of macbind, printed by `macbind completion zsh`
_macbind() {
    local -a found
    case ${words[CURRENT-1]} in
        @FILES@) _files; return ;;
    esac
    found=(${(f)"$(COMP_WORDS="${(j: :)words[1,CURRENT]}" COMP_CWORD=$((CURRENT - 1)) \
        _MACBIND_COMPLETE=complete_bash ${words[1]} 2>/dev/null)"})
    (( ${#found} )) && compadd -a -- found
}
if [[ ${funcstack[1]} == _macbind ]]; then
    _macbind "$@"
else
    compdef _macbind macbind
fi
"""

_FISH = r"""# fish completion of macbind, printed by `macbind completion fish`
function __macbind_words
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l line (string join ' ' -- (string escape -- $words) "$current")
    env COMP_WORDS="$line" COMP_CWORD=(count $words) _MACBIND_COMPLETE=complete_bash $words[1] 2>/dev/null
end
complete -c macbind -f -a '(__macbind_words)'
@FILES@
"""


def script(shell: Shell) -> str:
    """The script for a shell."""
    match shell:
        case Shell.BASH:
            return _BASH.replace("@FILES@", "|".join(FILE_OPTIONS))
        case Shell.ZSH:
            return _ZSH.replace("@FILES@", "|".join(FILE_OPTIONS))
        case Shell.FISH:
            lines = (f"complete -c macbind -l {one.removeprefix('--')} -rF" for one in FILE_OPTIONS)
            return _FISH.replace("@FILES@", "\n".join(lines))
