from roles.testbed.module_utils.testbed import *
