"""Register an array once in shared memory; attach it by name in every kernel and engine."""
