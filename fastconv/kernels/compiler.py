"""What Numba runs to compile a kernel: its own passes, without those that find nothing to do in kernels.

A kernel has no closures, no `with`, no lists of several types, nothing that Numba would unroll, and so on; each pass costs
time even so, and the bookkeeping after it as much again. LLVM's passes over single functions are left out too: what they do is done again once
the functions that a kernel calls are linked to it. Those functions themselves are not made machine code of before, nor, in some files, optimised.
"""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from numba.core import compiler, typed_passes, types, untyped_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_machinery import PassManager, register_pass

WITHOUT = (untyped_passes.WithLifting, untyped_passes.InlineClosureLikes, untyped_passes.RewriteDynamicRaises, untyped_passes.MakeFunctionToJitFunction,
           untyped_passes.FindLiterallyCalls, untyped_passes.LiteralUnroll, untyped_passes.LiteralPropagationSubPipelinePass,
           typed_passes.InlineOverloads, typed_passes.DumpParforDiagnostics)


class Library(JITCodeLibrary):
    """The code of a kernel, optimised only once everything that it calls is linked."""

    def __init__(self, codegen: Any, name: str) -> None:
        super().__init__(codegen, name)
        self.enable_object_caching()

    def _optimize_functions(self, module: Any) -> None:
        pass


class Part(Library):
    """The code of what a kernel calls, which is linked to the kernel's and optimised there: no machine code is made of it alone."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


class EarlyPart(Part):
    """Optimised before it is linked, too."""

    def _optimize_final_module(self) -> None:
        JITCodeLibrary._optimize_final_module(self)


@register_pass(mutates_CFG=True, analysis_only=False)
class Lowering(typed_passes.NativeLowering):
    """Numba's, into a `Library`."""

    _name = "fastconv_lowering"

    def run_pass(self, state: Any) -> bool:
        state.library = state.library or Library(state.targetctx.codegen(), state.func_id.func_qualname)
        return bool(super().run_pass(state))


@register_pass(mutates_CFG=True, analysis_only=False)
class PartLowering(Lowering):
    """Into a `Part`, which stands for the machine code that there is not."""

    _name = "fastconv_part_lowering"
    kind = Part

    def run_pass(self, state: Any) -> bool:
        state.library, state.flags.no_compile = self.kind(state.targetctx.codegen(), state.func_id.func_qualname), True
        done = super().run_pass(state)
        state.targetctx.insert_user_function(state.library, state.cr.fndesc, [state.library])
        state.cr = state.cr._replace(cfunc=state.library)
        return done


@register_pass(mutates_CFG=True, analysis_only=False)
class EarlyPartLowering(PartLowering):
    _name = "fastconv_early_part_lowering"
    kind = EarlyPart


class Compiler(compiler.CompilerBase):
    """Of kernels."""

    lowering = Lowering

    def define_pipelines(self) -> list[PassManager]:
        passes, inlined = PassManager("fastconv"), False
        for made, description in compiler.DefaultPassBuilder.define_nopython_pipeline(self.state).passes:
            if made in WITHOUT or (made is untyped_passes.DeadBranchPrune and not inlined):
                continue                     # dead branches are found once the functions around them are known
            inlined |= made is untyped_passes.InlineInlinables
            passes.add_pass(self.lowering if made is typed_passes.NativeLowering else made, description)
        passes.finalize()
        return [passes]


class PartCompiler(Compiler):
    """Of what they call."""

    lowering = PartLowering


class EarlyPartCompiler(PartCompiler):
    lowering = EarlyPartLowering


def as_part(dispatcher: Any, make: Callable[[], Any]) -> None:
    """Have what calls this kernel link a part, which is never called from Python and kept nowhere. make: makes its dispatcher."""
    @functools.cache
    def part() -> Any:
        made = make()
        compiled, known = made.compile, made.overloads
        made.compile = lambda signature: compiled(tuple(map(types.unliteral, signature)))      # one version for all numbers that stand in calls of it
        made.add_overload = lambda result: known.update({tuple(result.signature.args): result})
        return made

    dispatcher.part = part
    dispatcher.get_call_template = lambda args, kws: part().get_call_template(args, kws)
    dispatcher.get_overload = lambda signature: part().get_overload(signature)
