from roles.testbed.module_utils.testbed_virtual import *
