"""A program that trains the toy stage, with the signals and processes of the real one.

    python tests/toy_program.py WORKDIR STEPS SECONDS [BAD_STEP [MAX_SKIPPED]]

takes SECONDS for a step, and TOY_LAST_SAVE_SECONDS and TOY_VALIDATION_SECONDS of the environment
for the last save and for a validation.
"""

import contextlib
import os
import pathlib
import sys
import time

from gmsrm_jax.runtime.signals import exit_status, noticed_by_steps


def main(workdir, steps, seconds, bad_step="0", max_skipped="0"):
    def run():
        # Inside, for signals must be watched before NumPy and JAX start their threads.
        import jax
        from toy_stage import GIVEN, Data, Stage

        from gmsrm_jax.checkpoints import store
        from gmsrm_jax.runtime.devices import data_mesh
        from gmsrm_jax.runtime.log import open_text_log
        from gmsrm_jax.runtime.processes import check_agreement, initialise
        from gmsrm_jax.training.loop import train_stage

        write_manifest = store.write_manifest

        def write_slowly(folder):
            if folder.name == steps:
                print("saving the last step", flush=True)
                time.sleep(float(os.environ.get("TOY_LAST_SAVE_SECONDS", "0")))
            write_manifest(folder)

        store.write_manifest = write_slowly

        class SlowStage(Stage):
            def validate(self, state):
                if long := os.environ.get("TOY_VALIDATION_SECONDS"):
                    print("validating", flush=True)
                    time.sleep(float(long))
                return super().validate(state)

        initialise()
        open_text_log(None, jax.process_index() == 0)
        check_agreement({"number of steps": steps})
        # As `training.run.train` does: with several processes a signal waits for the first step.
        several = jax.process_count() > 1
        with noticed_by_steps(lambda: "before the steps") if several else contextlib.nullcontext():
            train_stage(
                SlowStage(int(steps), int(bad_step) or None),
                data=Data(seconds=float(seconds)),
                workdir=pathlib.Path(workdir),
                mesh=data_mesh(),
                seed=3,
                given=GIVEN,
                log_every=3,
                optimization_level=1,
                tensorboard=False,
                max_skipped_updates=int(max_skipped),
            )

    return exit_status(run)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
