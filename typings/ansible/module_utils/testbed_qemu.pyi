from roles.testbed.module_utils.testbed_qemu import *
