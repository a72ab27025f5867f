from roles.testbed.module_utils.testbed_sources import *
