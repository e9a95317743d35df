"""The box's GPUs: the ``GpuProbe`` port on NVML, and one that makes devices up for boxes without any."""
