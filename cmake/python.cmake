# SPDX-License-Identifier: MIT
# The Python package's compiled part: libhac beside the cffi extension, so that
# Python and C code in one process share one library (and one fault handler).
find_package(Python REQUIRED COMPONENTS Interpreter Development.Module)

set(HAC_FFI_C ${PROJECT_BINARY_DIR}/_ffi.c)
file(GLOB HAC_FFI_INPUTS CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/pyhac/*.[ch])
add_custom_command(
	OUTPUT ${HAC_FFI_C}
	COMMAND ${Python_EXECUTABLE} ${PROJECT_SOURCE_DIR}/pyhac/_build.py ${HAC_FFI_C}
	DEPENDS ${PROJECT_SOURCE_DIR}/pyhac/_build.py ${HAC_FFI_INPUTS}
		${PROJECT_SOURCE_DIR}/libhac/include/hac.h
		${PROJECT_SOURCE_DIR}/libhac/include/hac_helper.h
	VERBATIM)
python_add_library(_ffi MODULE WITH_SOABI ${HAC_FFI_C})
target_link_libraries(_ffi PRIVATE hac)
set_target_properties(_ffi PROPERTIES INSTALL_RPATH "$ORIGIN")

install(TARGETS hac LIBRARY DESTINATION pyhac NAMELINK_SKIP)
install(TARGETS _ffi LIBRARY DESTINATION pyhac)
install(FILES ${PROJECT_SOURCE_DIR}/libhac/include/hac.h
	${PROJECT_SOURCE_DIR}/libhac/include/hac_helper.h DESTINATION pyhac/include)
