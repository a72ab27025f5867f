from plugins.module_utils.kernel_image import *
