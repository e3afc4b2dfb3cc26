# SPDX-License-Identifier: MIT
# C tests, examples and benchmarks: one file, one program.
enable_testing()
add_custom_target(c-tests)

file(GLOB HAC_TESTS CONFIGURE_DEPENDS
	${PROJECT_SOURCE_DIR}/tests/c/test_*.c ${PROJECT_SOURCE_DIR}/tests/c/fuzz_*.c)
foreach(file ${HAC_TESTS})
	cmake_path(GET file STEM name)
	add_executable(${name} ${file})
	target_link_libraries(${name} PRIVATE hac_internal hac_flags)
	set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY tests)
	add_dependencies(c-tests ${name})
	add_test(NAME ${name} COMMAND ${name})
	set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 300)
endforeach()

# The helper process of those that test replication.
add_executable(replication_helper ${PROJECT_SOURCE_DIR}/tests/c/replication_helper.c)
target_link_libraries(replication_helper PRIVATE hac_internal hac_flags)
set_target_properties(replication_helper PROPERTIES RUNTIME_OUTPUT_DIRECTORY tests)
add_dependencies(c-tests replication_helper)

function(hac_programs folder group)
	file(GLOB files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${folder}/*.c)
	foreach(file ${files})
		cmake_path(GET file STEM name)
		add_executable(${group}-${name} ${file})
		target_link_libraries(${group}-${name} PRIVATE hac hac_flags)
		set_target_properties(${group}-${name} PROPERTIES
			OUTPUT_NAME ${name} RUNTIME_OUTPUT_DIRECTORY ${group})
	endforeach()
endfunction()
hac_programs(examples/c examples)
hac_programs(microbench microbench)

# Run inside the patched Xen by tests/xen/run, and skipped elsewhere.
add_custom_target(xen-tests)
file(GLOB HAC_XEN_TESTS CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/xen/xen_*.c)
foreach(file ${HAC_XEN_TESTS})
	cmake_path(GET file STEM name)
	if(name STREQUAL "xen_engines" OR HAC_SANITIZE)
		add_executable(${name} ${file})
		target_link_libraries(${name} PRIVATE hac_internal)
	else()
		# Static: they start by the thousand, slowly.
		add_executable(${name} ${file} ${PROJECT_SOURCE_DIR}/libhac/src/xen_gate.c
			${PROJECT_SOURCE_DIR}/libhac/src/error.c)
		target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/libhac/include
			${PROJECT_SOURCE_DIR}/libhac/src ${HAC_XEN_INCLUDE_DIR})
		target_link_options(${name} PRIVATE -static)
	endif()
	target_link_libraries(${name} PRIVATE hac_flags)
	set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY xen)
	add_dependencies(xen-tests ${name})
endforeach()

# Without a C library, so that the 32-bit one needs nothing but the compiler.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" AND NOT HAC_SANITIZE)
	foreach(bits 64 32)
		set(fuzz ${PROJECT_BINARY_DIR}/xen/fuzz${bits})
		add_custom_command(
			OUTPUT ${fuzz}
			COMMAND ${CMAKE_COMMAND} -E make_directory ${PROJECT_BINARY_DIR}/xen
			COMMAND ${CMAKE_C_COMPILER} -m${bits} -O2 -g -Wall -Wextra -ffreestanding -nostdlib
				-static -fno-pie -no-pie -fno-stack-protector
				-I${HAC_XEN_INCLUDE_DIR} ${PROJECT_SOURCE_DIR}/tests/xen/fuzz.c -o ${fuzz}
			DEPENDS ${PROJECT_SOURCE_DIR}/tests/xen/fuzz.c
				${HAC_XEN_INCLUDE_DIR}/arch-x86/hac.h
			VERBATIM)
		add_custom_target(fuzz${bits} DEPENDS ${fuzz})
		add_dependencies(xen-tests fuzz${bits})
	endforeach()
endif()
